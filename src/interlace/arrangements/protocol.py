"""The contract of an arrangement."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Arrangement", "taken"]


class Arrangement(Protocol):
    """The physical order of the tokens of a forward: (open, group) -> permutation, int64 [rows, n].

    Token ``permutation[r, i]`` of the row stands at place i. Positions (RoPE) go with the tokens; attention patterns
    judge by the place. open: boolean [rows, n], the tokens that are not known. group: int64 [rows, n], rising along the
    row; tokens move inside their group only.
    """

    def __call__(self, open: Tensor, group: Tensor) -> Tensor: ...


def taken(x: Tensor, order: Tensor) -> Tensor:
    """x [rows, n, ...] in another order, int64 [rows, n]: out[r, i] = x[r, order[r, i]].

    >>> import torch
    >>> taken(torch.tensor([[7, 8, 9]]), torch.tensor([[2, 0, 1]])).tolist()
    [[9, 7, 8]]
    """
    return x.gather(1, order.view(*order.shape, *[1] * (x.dim() - 2)).expand(*order.shape, *x.shape[2:]))
