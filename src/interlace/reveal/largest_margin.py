"""A fixed count per step, by how far the likeliest token leads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .protocol import Proposal

__all__ = ["LargestMargin"]


@dataclass(frozen=True)
class LargestMargin:
    """The quota's tokens of largest margin p1 - p2, p1 and p2 being the two largest probabilities.

    ``Static`` asks for the probability of the candidate alone, and so prefers 0.5 beside 0.49 to 0.4 beside many small
    ones. The top-K probability margin of arXiv:2502.06768; the order ``topk_margin`` of Dream (arXiv:2508.15487).

    >>> import torch
    >>> from types import SimpleNamespace
    >>> open, drawn = torch.tensor([[True, True, False, True]]), SimpleNamespace(margin=torch.tensor([0.1, 0.3, 0.2]))
    >>> two, step = torch.tensor([2]), torch.tensor([0])
    >>> LargestMargin()(Proposal(open, drawn, two, step, of=2)).tolist()
    [[False, True, False, True]]
    """

    def __call__(self, proposal: Proposal) -> Tensor:
        return proposal.top(proposal.margin, proposal.quota)
