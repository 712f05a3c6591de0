"""A fixed count per step, by entropy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .protocol import Proposal

__all__ = ["LeastUncertain"]


@dataclass(frozen=True)
class LeastUncertain:
    """The quota's tokens of least entropy; ``Static`` asks for the probability of the candidate instead.

    The order ``entropy`` of Dream (arXiv:2508.15487), whose ``maskgit_plus`` is ``Static``, whose ``topk_margin`` is
    ``LargestMargin`` and whose ``origin`` is ``Ancestral``.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> open, h = torch.tensor([[True, True, False, True]]), SimpleNamespace(entropy=torch.tensor([0.5, 0.2, 0.9]))
    >>> two, step = torch.tensor([2]), torch.tensor([0])
    >>> LeastUncertain()(Proposal(open, h, two, step, of=2)).tolist()
    [[True, True, False, False]]
    """

    def __call__(self, proposal: Proposal) -> Tensor:
        return proposal.top(-proposal.entropy, proposal.quota)
