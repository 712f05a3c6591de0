"""Every token by itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Independent"]


@dataclass(frozen=True)
class Independent:
    """Each token is masked with the probability of its level, whatever its neighbours are: level, uniform as drawn.

    MDLM (arXiv:2406.07524), BD3-LM (arXiv:2503.09573), SDAR (arXiv:2510.06303).
    """

    def __call__(self, level: Tensor, uniform: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        return level, uniform
