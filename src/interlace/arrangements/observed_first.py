"""Known tokens in front of unknown ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["ObservedFirst"]


@dataclass(frozen=True)
class ObservedFirst:
    """Within a group the known tokens come first, then the open ones, each in their old order.

    Under a plain causal mask an open token then sees every known token of its group, also those behind its place, and
    what is known never depends on what is not: keys of the known front can be kept. Source: WeDLM (arXiv:2512.22737).

    >>> import torch
    >>> ObservedFirst()(torch.tensor([[True, False, True, False]]), torch.zeros(1, 4, dtype=torch.long)).tolist()
    [[1, 3, 0, 2]]
    """

    def __call__(self, open: Tensor, group: Tensor) -> Tensor:
        return (2 * group + open.long()).argsort(dim=1, stable=True)
