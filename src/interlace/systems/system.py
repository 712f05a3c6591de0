"""What a system is: a choice of parts, the settings that the choice depends on, and the claim that is checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator
from pydantic_core import PydanticCustomError

from ..arrangements import Arrangement
from ..attention.patterns import Pattern
from ..errors import SettingError, amiss, nearest
from ..generation import Guide
from ..grid import Schedule
from ..layouts import Layout
from ..lookahead import Lookahead
from ..processes import Process
from ..reveal import Reveal, Tempered, rules
from ..sampling import Sampler
from ..training.objectives import Objective

CONFIDENCE = ("threshold", (1.0, 0.95, 0.9, 0.8, 0.6, 0.4))
"""The dial of systems that fix what they are sure of."""

NOTHING = (MISSING, MISSING)
"""Default and factory of a field that has neither."""

CHECKPOINT = {"mask_id", "block_size", "eos_ids", "vocab_size"}
"""Settings that a checkpoint says by itself, in fields of its own."""

__all__ = ["CHECKPOINT", "CONFIDENCE", "Claim", "Parts", "Settings", "System", "TextSettings", "rules_named"]


@dataclass(frozen=True)
class Parts:
    """The arguments of ``interlace.generation.generate``, and the objective with which the network was trained."""

    layout: Layout
    pattern: Pattern
    process: Process
    schedule: Schedule
    objective: Objective
    memory: str = "exact"
    arrangement: Arrangement | None = None
    lookahead: Lookahead | None = None
    guide: Guide | None = None

    @property
    def sampling(self) -> dict[str, Any]:
        """What ``generate`` takes."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "objective"}

    @property
    def fills(self) -> bool:
        """Whether what is open inside a prompt can be filled."""
        return self.process.feeds_draft and self.lookahead is None


class Settings(BaseModel):
    """Settings that a system's parts depend on; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def but(self, **changes: Any) -> Any:
        """These settings with some changed (``None`` leaves one as it is). ``SettingError`` names what is wrong."""
        given = {k: v for k, v in changes.items() if v is not None}
        try:
            return type(self)(**(self.model_dump() | given))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(p) for p in first["loc"]) or "settings"
            if first["type"] == "extra_forbidden":
                raise SettingError(f"unknown setting {place!r}; {nearest(place, type(self).model_fields)}") from None
            raise SettingError(amiss(place, first)) from None


def rules_named(schema: dict[str, Any]) -> None:
    """The rules that a text model's settings can make, for forms."""
    schema["enum"] = list(TextSettings._rules())


class TextSettings(Settings):
    """Settings of a text model's decoding. ``mask_id`` and ``block_size`` come from the checkpoint."""

    block_size: int = Field(4, ge=1, le=4096, description="tokens per block")
    mask_id: int = Field(0, ge=0, description="id of the mask token")
    steps: int | None = Field(None, ge=1, description="denoising steps per block (default: block_size)")
    reveal: str = Field(
        "dynamic", description="rule that says which candidates are fixed in a step", json_schema_extra=rules_named
    )
    threshold: float = Field(0.9, ge=0, description="confidence above which a candidate is fixed")
    gamma: float = Field(
        0.35, ge=0, description="nats of joint uncertainty fixed in a step (entropy-bounded, dependence-bounded)"
    )
    order_temperature: float = Field(
        0.0, ge=0, description="draw the most confident by softmax(confidence / this); 0 takes them"
    )
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    top_k: int = Field(0, ge=0, description="keep the likeliest tokens only; 0 is off")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the smallest set of this probability; 1 is off")

    @field_serializer("order_temperature")
    def _finite(self, value: float) -> float | str:
        return value if math.isfinite(value) else "inf"  # JSON knows no infinity

    @field_validator("reveal")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        """A rule of the folder that these settings can make; None where a system chooses one."""
        if name is not None and name not in cls._rules():
            *most, last = map(repr, cls._rules())
            raise PydanticCustomError("literal_error", f"Input should be {', '.join(most)} or {last}")
        return name

    @classmethod
    def _rules(cls) -> dict[str, Any]:
        """Reveal rules that need nothing but these settings."""
        return {
            name: rule
            for name, rule in rules().items()
            if all(f.name in cls.model_fields or (f.default, f.default_factory) != NOTHING for f in fields(rule))
        }

    def read(self, **facts: Any) -> Any:
        """These settings with what a checkpoint says of those that they have (``CHECKPOINT``); None says nothing."""
        return self.but(**{name: value for name, value in facts.items() if name in type(self).model_fields})

    def sampler(self) -> Sampler:
        return Sampler(self.temperature, self.top_k, self.top_p)

    def rule(self) -> Reveal:
        """The reveal rule, given those of these settings that it knows, and the temperature of its order."""
        cls, known = self._rules()[self.reveal], type(self).model_fields
        rule: Reveal = cls(**{f.name: getattr(self, f.name) for f in fields(cls) if f.name in known})
        return Tempered(rule, self.order_temperature) if self.order_temperature else rule


@dataclass(frozen=True)
class Claim:
    """What the paper says, and when we call it reproduced at small scale (the check is in ``interlace.claims``)."""

    paper: str
    reproduced_if: str


@dataclass(frozen=True)
class System:
    """A published system: where it comes from, its settings' defaults, and its parts as a function of them.

    format: the checkpoint family in which its weights are published. written_as: families in whose format an adapted
    model is written when the former is not there or cannot express it (the last resort is our own); config.json then
    names the system. block_sizes: whether decoding takes that of training alone ("trained"), any ("free"), or knows no
    blocks ("none"). dial: the setting that trades quality for speed, and values of it from the surest to the fastest.
    """

    name: str
    title: str
    paper: str
    summary: str
    family: Literal["text", "image", "video"]
    settings: Settings
    parts: Callable[[Any], Parts]
    claim: Claim | None = None
    format: str | None = None
    written_as: tuple[str, ...] = ()
    block_sizes: Literal["trained", "free", "none"] = "trained"
    dial: tuple[str, tuple[float, ...]] | None = None

    @property
    def denoises(self) -> bool:
        """Whether the network is shown noisy units, which one that predicts the next token never learnt to read."""
        return self.parts(self.settings).process.feeds_draft

    @property
    def masks(self) -> bool:
        """Whether what is open is a token of its own, so that a checkpoint must name one."""
        return getattr(self.parts(self.settings).process, "mask_id", None) is not None

    def reads(self, settings: Settings) -> set[str]:
        """The settings that the parts are made of, as they are: under another rule it may be others.

        >>> from interlace.systems import find
        >>> sorted(find("ar").reads(find("ar").settings))
        ['temperature', 'top_k', 'top_p']
        """
        read: set[str] = set()

        class Watched(type(settings)):  # type: ignore[misc]
            def __getattribute__(self, name: str) -> Any:
                read.add(name)
                return super().__getattribute__(name)

        self.parts(Watched(**dict(settings)))
        return read & type(settings).model_fields.keys()
