"""What is certain enough, and the less so the farther it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingError
from .protocol import Proposal

__all__ = ["NearCertain"]


@dataclass(frozen=True)
class NearCertain:
    """Every token whose entropy H_i + penalty * (i - first open token) is below ``entropy`` nats, or else the least.

    The quota is ignored. With ``entropy`` 0 it is one token a step; with a large penalty, strictly from left to right.
    Source: WeDLM (arXiv:2512.22737). Raises ``SettingError`` for negative numbers.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> open, drawn = torch.tensor([[False, True, True, False, True]]), SimpleNamespace()
    >>> drawn.entropy, one, step = torch.tensor([0.30, 0.35, 0.39]), torch.tensor([1]), torch.tensor([0])
    >>> NearCertain(0.4, 0.02)(Proposal(open, drawn, one, step, of=5)).tolist()
    [[False, True, True, False, False]]
    """

    entropy: float = 0.4
    penalty: float = 0.02

    def __post_init__(self) -> None:
        if not self.entropy >= 0 or not self.penalty >= 0:
            raise SettingError(
                f"entropy {self.entropy} and penalty {self.penalty}; pass nats, 0 or more (entropy 0: a token a step)"
            )

    def __call__(self, proposal: Proposal) -> Tensor:
        open = proposal.open
        place = torch.arange(open.shape[1], device=open.device)
        first = place.where(open, open.shape[1]).amin(1, keepdim=True)
        score = proposal.entropy + self.penalty * (place - first)
        return (open & (score < self.entropy)) | proposal.top(-score, torch.ones_like(proposal.quota))
