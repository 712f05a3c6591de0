"""Left to right."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Sequential"]


@dataclass(frozen=True)
class Sequential:
    """The quota's leftmost open tokens. Called ``sequential`` by SDAR (arXiv:2510.06303)."""

    def __call__(self, open: Tensor, confidence: Tensor, entropy: Tensor, quota: Tensor) -> Tensor:
        return open & (open.cumsum(-1) <= quota[:, None])
