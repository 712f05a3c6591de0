"""The stochastic first-order step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .protocol import Span

__all__ = ["Ancestral"]


@dataclass(frozen=True)
class Ancestral:
    """A draw from q(x' | x, clean): part of the implied noise is replaced by fresh noise of deviation ``eta`` * s.

    s^2 = sigma'^2 (1 - (alpha sigma' / (alpha' sigma))^2) is the variance of the path's posterior; ``eta`` = 1 is DDPM,
    0 is ``DDIM``. Source: DDPM (arXiv:2006.11239), DDIM (arXiv:2010.02502).
    """

    eta: float = 1.0
    stochastic = True

    def __call__(
        self, x: Tensor, clean: Tensor, span: Span, noise: Tensor | None, carry: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        assert noise is not None
        implied = (x - span.alpha * clean) / span.sigma
        ratio = span.alpha * span.to_sigma / (span.to_alpha * span.sigma)
        variance = (span.to_sigma**2 * (1 - ratio**2)).clamp_min(0) * self.eta**2
        kept = (span.to_sigma**2 - variance).clamp_min(0).sqrt()
        return span.to_alpha * clean + kept * implied + variance.sqrt() * noise, None
