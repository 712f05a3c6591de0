"""The contract of a way of masking."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Masking"]


class Masking(Protocol):
    """Turns the levels and uniform numbers that were drawn into those that a process corrupts with.

    (level, uniform, unit) -> (level, uniform), all [rows, n]. A token is masked where its uniform number lies below its
    level, and its loss is weighted by the inverse of that level: so a way of masking says how many tokens of a unit
    fall (level) and which (uniform), and the process need not know. unit: int64, of every token, equal within a unit
    and rising along the row; -1 where nothing is learnt.
    """

    def __call__(self, level: Tensor, uniform: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]: ...
