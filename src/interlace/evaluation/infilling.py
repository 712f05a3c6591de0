"""Is a statement that was cut out put back as it was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..worlds.verifiers import InfillCase, exact_match
from .progress import watched
from .rates import rate_interval

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Filling", "Fillings", "Sees", "infill"]

Sees = Literal["left side", "last block", "both sides"]


@dataclass(frozen=True)
class Filling:
    """One hole and what was put into it. right: tokens that are what stood at their place."""

    name: str
    kind: Literal["line", "body"]
    text: str
    exact: bool
    right: int
    tokens: int
    forwards: int


@dataclass(frozen=True)
class Fillings:
    """What all holes together say.

    sees: what the model saw: ``left side`` (autoregressive), ``both sides`` (trained suffix first), or ``last block``:
    of what comes after, only what lies in the hole's last block.
    """

    records: tuple[Filling, ...]
    seconds: float
    seed: int
    sees: Sees
    settings: dict[str, Any]

    @property
    def sees_suffix(self) -> bool:
        """Whether anything of what comes after the hole was seen."""
        return self.sees != "left side"

    def of(self, kind: str | None = None) -> tuple[Filling, ...]:
        """The records of one kind of hole (``line``, ``body``), or all."""
        return tuple(r for r in self.records if kind is None or r.kind == kind)

    def exact_match(self, kind: str | None = None) -> float:
        """Share of holes filled as they were, apart from spaces at line ends."""
        return sum(r.exact for r in self.of(kind)) / max(1, len(self.of(kind)))

    def exact_interval(self, kind: str | None = None) -> tuple[float, float]:
        """95% interval of that share (Wilson)."""
        return rate_interval(sum(r.exact for r in self.of(kind)), len(self.of(kind)))

    def accuracy(self, kind: str | None = None) -> float:
        """Share of tokens that are what stood at their place."""
        found = self.of(kind)
        return sum(r.right for r in found) / max(1, sum(r.tokens for r in found))

    @property
    def tokens_per_forward(self) -> float:
        return sum(r.tokens for r in self.records) / max(1, sum(r.forwards for r in self.records))


def infill(
    model: Model, cases: Sequence[InfillCase], seed: int = 0, progress: bool = False, length: int | None = None
) -> Fillings:
    """Fill every hole; the filling is compared with what was there.

    Every model is told the length of the hole: the reference's number of tokens (or ``length``). A diffusion model gets
    prefix and suffix; an autoregressive one, which cannot infill, goes on with the prefix for as many tokens. So they
    differ in what they see (``sees``), and a share of exact matches means the same for all.

    >>> infill(model, infill_cases(standard_library("heldout"), 40, model.tokenizer))    # doctest: +SKIP
    """
    causal = not model.parts.fills
    records = []
    began = time.perf_counter()
    for case in watched(cases, len(cases), "infilling", progress):
        reference = model.encode(case.middle)
        size = length or len(reference)
        if causal:
            result = model.complete(case.prefix, size, seed=seed, stop=())
        else:
            result = model.infill(case.prefix, case.suffix, size, seed=seed)
        text = model.text(result.content)
        exact = exact_match(text, case.middle)
        right = sum(a == b for a, b in zip(result.content.tolist(), reference, strict=False))
        records.append(Filling(case.name, case.kind, text, exact, right, size, result.forwards))
    seconds = time.perf_counter() - began
    sees: Sees = "left side" if causal else "both sides" if model.reads_suffix_first else "last block"
    return Fillings(tuple(records), seconds, seed, sees, model.settings.model_dump(mode="json"))
