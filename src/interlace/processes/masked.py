"""What processes share in which a token is either itself or [MASK]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .protocol import Draw

__all__ = ["MaskedTokens"]


@dataclass(frozen=True)
class MaskedTokens:
    """Tokens and masks: what is open is the mask, and the level of a unit is the share of its tokens still masked."""

    mask_id: int

    feeds_draft = True
    conditioned = False
    noise = "uniform"

    def learns(self, noisy: Tensor, clean: Tensor) -> Tensor:
        return (noisy == self.mask_id) & (clean != self.mask_id)

    def complement(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """The other view of a row: masked exactly where ``noisy`` is not."""
        return clean.masked_fill(noisy != self.mask_id, self.mask_id)

    def prior(self, draw: Draw, m: int, *shape: int) -> Tensor:
        return torch.full((m, *shape), self.mask_id, dtype=torch.long)

    def shown(self, x: Tensor) -> Tensor:
        return x

    def level(self, x: Tensor) -> Tensor:
        return (x == self.mask_id).sum(-1) / x.shape[-1]

    def open(self, x: Tensor) -> Tensor:
        return x == self.mask_id
