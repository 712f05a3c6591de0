"""Every token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Everything"]


@dataclass(frozen=True)
class Everything:
    """Nothing of a unit is known: level 1, always. What one step of diffusion from the full mask learns.

    TiDAR (arXiv:2511.08923).
    """

    def __call__(self, level: Tensor, uniform: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level), torch.zeros_like(uniform)
