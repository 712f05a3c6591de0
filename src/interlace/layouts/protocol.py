"""The contract of a layout: how a sample is cut into units, in which order, and where its tokens are."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..attention.patterns import Tags

__all__ = ["Layout", "tags_of"]


class Layout(Protocol):
    """Tokens are counted in the order of generation: unit after unit, and a fixed order inside a unit.

    ``index`` is such a count, an integer tensor of any shape [...]. A layout answers, for any index: in which unit
    is it, and at which coordinates?
    """

    @property
    def size(self) -> int:
        """Tokens per unit."""
        ...

    @property
    def axes(self) -> int:
        """Coordinates per token: 1, 2 or 3."""
        ...

    def units(self, length: int) -> int:
        """Units that hold ``length`` tokens; the last one may be partly filled."""
        ...

    def unit(self, index: Tensor) -> Tensor:
        """The unit of every token, [...]."""
        ...

    def positions(self, index: Tensor) -> Tensor:
        """The coordinates of every token for RoPE: [...] with one axis, [..., axes] with more."""
        ...

    def tags(self, length: int, document: int = 0, copy: int = 0) -> Tags:
        """What attention patterns know of the first ``length`` tokens, each tensor [length]."""
        ...


def tags_of(layout: Layout, length: int, document: int = 0, copy: int = 0) -> Tags:
    """``Layout.tags``, the same for every layout."""
    index = torch.arange(length)
    return Tags(index, layout.unit(index), torch.full_like(index, document), torch.full_like(index, copy))
