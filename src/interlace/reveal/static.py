"""A fixed count per step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .protocol import Proposal

__all__ = ["Static"]


@dataclass(frozen=True)
class Static:
    """The quota's most confident tokens: size/steps of them in every step.

    Called ``low_confidence_static`` by SDAR (arXiv:2510.06303) and its engines.
    """

    def __call__(self, proposal: Proposal) -> Tensor:
        return proposal.top(proposal.confidence, proposal.quota)
