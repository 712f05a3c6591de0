"""An image cut into squares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.patterns import Tags
from ..errors import SettingError
from .protocol import tags_of

__all__ = ["Squares"]


@dataclass(frozen=True)
class Squares:
    """A grid of height x width tokens, generated square by square; a token is a patch of pixels, or one latent.

    ::

         0  1 |  4  5        height = width = 4, side = 2: four units of four tokens.
         2  3 |  6  7        Squares in row-major order, row-major inside a square;
        ------+------        the numbers are the indices, the order of generation.
         8  9 | 12 13
        10 11 | 14 15        The position of a token is its place (h, w) in the grid.

    Args:
        height, width: the grid, in tokens.
        side: tokens along the side of a square; divides both.
        patch: pixels along the side of a token, so an image has height * patch x width * patch pixels.

    The image layout of ACDiT (arXiv:2412.07720).

    >>> import torch
    >>> layout = Squares(4, 4, side=2)
    >>> layout.positions(torch.tensor([0, 3, 4, 15])).tolist()
    [[0, 0], [1, 1], [0, 2], [3, 3]]
    >>> image = torch.randn(1, 8, 8, 3)
    >>> tokens = Squares(4, 4, side=2, patch=2).patchify(image); tokens.shape
    torch.Size([1, 16, 12])
    >>> torch.equal(Squares(4, 4, side=2, patch=2).unpatchify(tokens), image)
    True
    """

    height: int
    width: int
    side: int
    patch: int = 1

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.side, self.patch) < 1:
            raise SettingError(f"{self} has a setting below 1; pass 1 or more everywhere")
        if self.height % self.side or self.width % self.side:
            raise SettingError(
                f"a grid of {self.height} x {self.width} tokens cannot be cut into squares of side {self.side}; "
                "pass a side that divides both"
            )

    @property
    def size(self) -> int:
        return self.side * self.side

    @property
    def axes(self) -> int:
        return 2

    @property
    def length(self) -> int:
        """Tokens of one image."""
        return self.height * self.width

    def units(self, length: int) -> int:
        return -(-length // self.size)

    def unit(self, index: Tensor) -> Tensor:
        return index // self.size

    def positions(self, index: Tensor) -> Tensor:
        square, inside = index // self.size, index % self.size
        across = self.width // self.side
        h = square // across * self.side + inside // self.side
        w = square % across * self.side + inside % self.side
        return torch.stack((h, w), -1)

    def tags(self, length: int, document: int = 0, copy: int = 0) -> Tags:
        return tags_of(self, length, document, copy)

    def patchify(self, images: Tensor) -> Tensor:
        """Images [b, height * patch, width * patch, c] -> tokens [b, length, patch * patch * c] in their order."""
        b, high, wide, c = images.shape
        p, s = self.patch, self.side
        if (high, wide) != (self.height * p, self.width * p):
            raise SettingError(
                f"images of {high} x {wide} pixels do not fill {self}; pass {self.height * p} x {self.width * p}"
            )
        grid = images.reshape(b, self.height // s, s, p, self.width // s, s, p, c)
        return grid.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, self.length, p * p * c)

    def unpatchify(self, tokens: Tensor) -> Tensor:
        """The inverse: tokens [b, length, patch * patch * c] -> images [b, height * patch, width * patch, c]."""
        b, n, dim = tokens.shape
        p, s = self.patch, self.side
        if n != self.length or dim % (p * p):
            raise SettingError(
                f"{n} tokens of {dim} numbers are no image of {self}; pass {self.length} tokens of {p * p} per channel"
            )
        grid = tokens.reshape(b, self.height // s, self.width // s, s, s, p, p, dim // (p * p))
        return grid.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, self.height * p, self.width * p, dim // (p * p))
