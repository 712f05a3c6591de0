"""How a network that learnt from noisy contexts alone is sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .objectives import NOT_ZERO

if TYPE_CHECKING:
    from ..nn import Transformer

__all__ = ["ToldClean"]


class ToldClean(nn.Module):
    """A network that is told level (and label) of clean tokens too, as one trained by ``OneCopyLoss`` expects.

    It takes the network's place in ``generate``. The keys of clean tokens then depend on the label, so with guidance
    it needs memory "none".
    """

    def __init__(self, network: Transformer) -> None:
        super().__init__()
        self.network, self.config = network, network.config

    def forward(self, *args: Any, level: Tensor | None = None, **told: Any) -> Tensor:
        return self.network(*args, level=None if level is None else level.clamp_min(NOT_ZERO), **told)

    def head(self, hidden: Tensor) -> Tensor:
        return self.network.head(hidden)
