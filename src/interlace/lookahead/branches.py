"""A branch of masks for every number of drafted tokens that may turn out right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.patterns import Tags
from ..errors import SettingError

__all__ = ["Branches"]


@dataclass(frozen=True)
class Branches:
    """K branches of K masks: branch r supposes that r tokens, the newest one and r - 1 drafts, are right.

    With the newest token at place P and drafts at P + 1 .. P + K - 1, branch r = 1..K has its masks at the places
    P + r .. P + r + K - 1 and sees the row up to P + r - 1, and itself. So whatever is accepted, its next draft is
    there already. K + K^2 tokens are fed in all. Source: TiDAR (arXiv:2511.08923).

    Args:
        size: K.

    >>> Branches(2).tags(torch.tensor([3])).index.tolist()        # the newest token at 2, a draft at 3
    [[3, 4, 4, 5]]
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SettingError(f"the draft is {self.size} tokens long; pass 1 or more")

    @property
    def count(self) -> int:
        return self.size**2

    def tags(self, first: Tensor) -> Tags:
        branch = torch.arange(self.size, device=first.device).repeat_interleave(self.size)
        slot = torch.arange(self.size, device=first.device).repeat(self.size)
        start = (first[:, None] + branch).expand(len(first), -1)
        return Tags(start + slot, start - 1, torch.zeros_like(start), (branch + 1).expand_as(start))
