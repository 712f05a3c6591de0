"""The deterministic first-order step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .protocol import Span

__all__ = ["DDIM"]


@dataclass(frozen=True)
class DDIM:
    """x' = alpha' * clean + sigma' * noise, with the noise that x and the predicted clean imply.

    Order 1. On a flow-matching path (alpha = 1 - t, sigma = t) it is exactly the Euler step x + (t' - t) v.
    Source: DDIM (arXiv:2010.02502).
    """

    stochastic = False

    def __call__(
        self, x: Tensor, clean: Tensor, span: Span, noise: Tensor | None, carry: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        implied = (x - span.alpha * clean) / span.sigma
        return span.to_alpha * clean + span.to_sigma * implied, None
