"""The contract of a reveal rule, and the ranking that several rules share."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Reveal", "top"]


class Reveal(Protocol):
    """Which open tokens are fixed now: (open, confidence, entropy, quota) -> boolean [m, size].

    open: boolean [m, size], the tokens still masked. confidence, entropy: float [m, size], of the candidates; only
    meaningful where open. quota: int64 [m], how many tokens the schedule asks for in this step.
    A rule fixes at least one open token of a unit that has any, and never one that is not open.
    """

    def __call__(self, open: Tensor, confidence: Tensor, entropy: Tensor, quota: Tensor) -> Tensor: ...


def top(open: Tensor, score: Tensor, count: Tensor) -> Tensor:
    """The ``count[i]`` open tokens of highest score in row i (all open ones if there are fewer); ties to the left.

    >>> import torch
    >>> top(torch.tensor([[True, False, True]]), torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([1])).tolist()
    [[False, False, True]]
    """
    order = score.masked_fill(~open, float("-inf")).argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(-1)
    return (rank < count[:, None]) & open
