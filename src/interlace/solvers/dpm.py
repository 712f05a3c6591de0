"""The deterministic second-order multistep solver."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .protocol import Span

__all__ = ["DPMSolver2M"]


@dataclass(frozen=True)
class DPMSolver2M:
    """DPM-Solver++(2M): x' = (sigma'/sigma) x - alpha' (e^{-h} - 1) D; lambda = log(alpha/sigma), h = lambda' - lambda.

    D = (1 + 1/(2r)) clean - 1/(2r) previous clean, r = h_previous / h; on a unit's first step, and where lambda is
    infinite (the step into level 0, the second step from alpha = 0), D = clean. Order 2; one evaluation a step; the
    previous clean prediction is the carry, which belongs to the unit, so every unit starts afresh.
    Source: DPM-Solver++ (arXiv:2211.01095).
    """

    stochastic = False

    def __call__(
        self, x: Tensor, clean: Tensor, span: Span, noise: Tensor | None, carry: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        now, to = _log_snr(span.alpha, span.sigma), _log_snr(span.to_alpha, span.to_sigma)
        h = to - now
        direction = clean
        if carry is not None:
            r = (now - _log_snr(span.before_alpha, span.before_sigma)) / h
            second = clean + (clean - carry) / (2 * r)
            direction = clean.where(span.first | (span.to_sigma <= 0) | ~torch.isfinite(r), second)
        # written without e^{-h}, which is 0 * infinity at level 0: e^{-h} alpha' = alpha sigma' / sigma
        weight = span.to_alpha - span.alpha * span.to_sigma / span.sigma
        return span.to_sigma / span.sigma * x + weight * direction, clean


def _log_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    """-inf where nothing is known (alpha = 0), inf at level 0."""
    return alpha.log() - sigma.log()
