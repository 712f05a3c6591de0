"""Rules with the settings that tests give them, and proposals made of tables."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from interlace.reveal import (
    Damped,
    DependenceBounded,
    Dynamic,
    EntropyBounded,
    LargestMargin,
    Leading,
    LeastUncertain,
    NearCertain,
    Proposal,
    Sequential,
    Static,
    Threshold,
)

RANKING: list[Any] = [
    Static(), Dynamic(1.0), Dynamic(0.6), Threshold(0.6), LeastUncertain(), LargestMargin(), NearCertain(0.6, 0.1),
    Damped(Static(), (0,), 0.5),
]  # fmt: skip
"""They take the best by a score."""

OTHERS: list[Any] = [Sequential(), EntropyBounded(0.35), DependenceBounded(0.35), Leading(0.6)]


def proposal(
    open: Tensor,
    quota: int | Tensor = 1,
    step: int = 0,
    of: int = 4,
    draw: Callable[..., Tensor] | None = None,
    **scores: Tensor,
) -> Proposal:
    """Units [m, size] with these tokens open; scores [m, size] or [size] by name, quota one for all or int64 [m]."""
    drawn: Any = SimpleNamespace(token=torch.zeros(int(open.sum()), dtype=torch.long))
    for name, score in scores.items():
        setattr(drawn, name, score.expand_as(open)[open])
    one = torch.ones(len(open), dtype=torch.long)
    return Proposal(open, drawn, quota * one, step * one, of, draw)
