"""A row of tokens cut into blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..attention.patterns import Tags
from ..errors import SettingError
from .protocol import tags_of

__all__ = ["Blocks"]


@dataclass(frozen=True)
class Blocks:
    """Unit u holds the tokens u * size .. u * size + size - 1; the position of a token is its index.

    ::

        tokens    0 1 2 3   4 5 6 7   8 9 ...        (size 4)
        units       0         1        2

    The grid of blocks starts at token 0, the prompt included, so the block where prompt and answer meet holds both.
    Blocks of one token are the units of an autoregressive model. Used by text, DNA, actions, audio codes.

    Args:
        size: tokens per unit.
        per: units that are always there together (a block of sub-blocks): a row holds a multiple of them.

    >>> import torch
    >>> Blocks(4).unit(torch.tensor([0, 3, 4, 9])).tolist(), Blocks(4).units(9)
    ([0, 0, 1, 2], 3)
    """

    size: int
    per: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SettingError(f"the block size is {self.size}; pass 1 or more")
        if self.per < 1:
            raise SettingError(f"per is {self.per}; pass 1 or more units per block")

    @property
    def axes(self) -> int:
        return 1

    def units(self, length: int) -> int:
        return -(-length // (self.size * self.per)) * self.per

    def unit(self, index: Tensor) -> Tensor:
        return index // self.size

    def positions(self, index: Tensor) -> Tensor:
        return index

    def tags(self, length: int, document: int = 0, copy: int = 0) -> Tags:
        return tags_of(self, length, document, copy)
