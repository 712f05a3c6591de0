"""A confidence threshold with a quota to fall back on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import SettingError
from .protocol import Proposal

__all__ = ["Dynamic"]


@dataclass(frozen=True)
class Dynamic:
    """All tokens with confidence > ``threshold`` if they are at least the quota, else the quota's most confident.

    With a threshold of 1 or more it is ``Static``. Called ``low_confidence_dynamic`` by SDAR (arXiv:2510.06303).
    Raises ``SettingError`` for a threshold below 0.
    """

    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise SettingError(f"threshold is {self.threshold}; pass a probability, or 1 for the quota alone")

    def __call__(self, proposal: Proposal) -> Tensor:
        sure = proposal.open & (proposal.confidence > self.threshold)
        enough = sure.sum(-1, keepdim=True) >= proposal.quota[:, None]
        return sure.where(enough, proposal.top(proposal.confidence, proposal.quota))
