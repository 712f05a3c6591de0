"""A confidence threshold without a quota."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingError
from .protocol import Proposal

__all__ = ["Threshold"]


@dataclass(frozen=True)
class Threshold:
    """The most confident token, and every other with confidence >= ``threshold``; the quota is ignored.

    The dynamic rule of LMDeploy, and of Fast-dLLM (arXiv:2505.22618). Raises ``SettingError`` for a threshold below 0.
    """

    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise SettingError(f"threshold is {self.threshold}; pass a probability, or 1 for one token a step")

    def __call__(self, proposal: Proposal) -> Tensor:
        best = proposal.top(proposal.confidence, torch.ones_like(proposal.quota))
        return best | (proposal.open & (proposal.confidence >= self.threshold))
