"""A share of what is open."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..grid import lifted, times

__all__ = ["Proportional"]


@dataclass(frozen=True)
class Proportional:
    """floor(open (1 - s / t)) tokens, from time t to time s on an even grid from 1 to ``eps``; the last step all.

    The chance that a mask of the absorbing process at t is lifted by s is 1 - s / t (``grid.lifted``), so this is the
    expected number, rounded down. Of as many steps as tokens the first fixes none, and the last two. Source: Dream
    (arXiv:2508.15487).
    Raises ``SettingError`` for an ``eps`` outside of 0 to 1.

    >>> import torch
    >>> [Proportional()(torch.tensor([n]), 4, torch.tensor([i]), 4).item() for i, n in enumerate([4, 4, 3, 2])]
    [0, 1, 1, 2]
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        times(1, self.eps)

    def __call__(self, open: Tensor, size: int, step: Tensor, of: int) -> Tensor:
        return (open * lifted(step, of, self.eps)).long()
