"""A setting that pydantic refuses: the cause and the remedy in our words, whatever the kind of refusal."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from interlace.errors import amiss


class Every(BaseModel):
    low: float = Field(0, ge=0)
    above: float = Field(1, gt=0.5)
    high: int = Field(1, le=4096)
    below: float = Field(0, lt=1)
    many: list[int] = Field([1], min_length=1)
    finite: float = Field(0, allow_inf_nan=False)
    kind: Literal["a", "b"] = "a"
    path: str = Field("flow", pattern="^(flow|gaussian)$")
    flag: bool = True
    maybe: int | None = None
    pair: tuple[int, int] = (0, 1)
    own: int = 0

    @field_validator("own")
    @classmethod
    def _even(cls, own: int) -> int:
        if own % 2:
            raise ValueError("Pass an even number")
        return own


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"low": -1.0}, "low is -1.0; pass 0 or more"),
        ({"above": 0.5}, "above is 0.5; pass more than 0.5"),
        ({"high": 5000}, "high is 5000; pass 4096 or less"),
        ({"below": 1}, "below is 1; pass less than 1"),
        ({"many": []}, "many is []; pass 1 or more of them"),
        ({"many": 3}, "many is 3; pass a list"),
        ({"many": ["x"]}, "many.0 is 'x'; pass a whole number"),
        ({"pair": [1, 2, 3]}, "pair is [1, 2, 3]; pass 2 of them or fewer"),
        ({"pair": [1]}, "pair.1 is [1]; pass more of them"),
        ({"finite": float("inf")}, "finite is inf; pass a finite number"),
        ({"kind": "c"}, "kind is 'c'; pass 'a' or 'b'"),
        ({"path": "x"}, "path is 'x'; pass flow or gaussian"),
        ({"path": 3}, "path is 3; pass a text"),
        ({"flag": "perhaps"}, "flag is 'perhaps'; pass true or false"),
        ({"maybe": 1.5}, "maybe is 1.5; pass a whole number"),
        ({"low": "high"}, "low is 'high'; pass a number"),
        ({"low": "x" * 200}, f"low is '{'x' * 76}...; pass a number"),
        ({"own": 3}, "own is 3; pass an even number"),
    ],
)
def test_every_refusal_names_a_remedy(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Every(**given)
    first = caught.value.errors()[0]
    assert amiss(".".join(map(str, first["loc"])), first) == said


def test_what_is_missing_shows_nothing_of_the_rest() -> None:
    class Needs(BaseModel):
        out: str

    with pytest.raises(ValidationError) as caught:
        Needs.model_validate({"secret": "x"})
    assert amiss("out", caught.value.errors()[0]) == "out is missing; pass it"
