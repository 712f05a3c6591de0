"""The same number in every step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Even"]


@dataclass(frozen=True)
class Even:
    """``size`` tokens over ``of`` steps, the earlier steps taking the extra one (``grid.quotas``).

    A unit that was partly known at the start is full before its last step. LLaDA (arXiv:2502.09992), SDAR
    (arXiv:2510.06303).

    >>> import torch
    >>> Even()(torch.tensor([8, 5, 2]), 8, torch.tensor([0, 1, 2]), 3).tolist()
    [3, 3, 2]
    """

    def __call__(self, open: Tensor, size: int, step: Tensor, of: int) -> Tensor:
        return (step < size % of) + size // of
