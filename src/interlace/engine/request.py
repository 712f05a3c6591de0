"""What is asked of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..constraints import Constraint

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """One row: what is known, how much is wanted, and how it is decoded.

    prompt: token ids; ``OPEN`` (-1) is a token to fill. length: new tokens behind it; 0 only fills.
    system: another system than the model's, for the same weights. settings: those of the system that differ from the
    model's (temperature, threshold, steps, ...). seed: of all its draws. stop: token ids that end it, after the unit in
    which they appear; None: the model's. constraint: what the new tokens must match. bias: added to the logits of these
    tokens. details: log-probabilities and the order of reveal are wanted. top: so many likeliest alternatives of every
    token too. drafts: units that are not clean yet are wanted as well. places: positions of the tokens, when the row is
    read in another order than it is written in (infilling suffix first).
    """

    prompt: tuple[int, ...]
    length: int
    system: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    stop: tuple[int, ...] | None = None
    constraint: Constraint | None = None
    bias: Mapping[int, float] = field(default_factory=dict)
    details: bool = False
    top: int = 0
    drafts: bool = False
    places: Tensor | None = None
