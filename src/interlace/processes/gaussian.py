"""Gaussian diffusion (DDPM), predicting the noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .continuous import GaussianPath

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian(GaussianPath):
    """x_t = sqrt(abar_t) clean + sqrt(1 - abar_t) noise with linear betas; the network predicts the noise.

    abar is the cumulated product of 1 - beta over ``steps`` training steps, beta from ``beta_start`` to ``beta_end``;
    level t stands for training step t * steps, and log abar is interpolated in between (abar_0 = 1).
    Source: DDPM (arXiv:2006.11239).
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        table = _log_alpha_bar(self.steps, self.beta_start, self.beta_end).to(t.device)
        place = t.double().clamp(0, 1) * self.steps
        low = place.floor().long().clamp_max(self.steps - 1)
        log_bar = torch.lerp(table[low], table[low + 1], place - low)
        # 1 - abar near t = 0 is a difference of nearly equal numbers: expm1 keeps its digits
        return (0.5 * log_bar).exp().to(t.dtype), (-torch.expm1(log_bar)).sqrt().to(t.dtype)

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise

    def clean(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.coefficients(t)
        return (x - sigma * prediction) / alpha


@lru_cache(maxsize=8)
def _log_alpha_bar(steps: int, beta_start: float, beta_end: float) -> Tensor:
    betas = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
    return torch.cat((torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)))
