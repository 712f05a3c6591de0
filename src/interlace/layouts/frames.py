"""A video cut into groups of frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.patterns import Tags
from ..errors import SettingError
from .protocol import tags_of

__all__ = ["Frames"]


@dataclass(frozen=True)
class Frames:
    """Frames of height x width tokens in raster order; a unit is one frame or a few of them.

    ::

        frame 0   frame 1     frame 2   frame 3      height = width = 2, frames_per_unit = 2:
         0  1      4  5    |    8  9     12 13       two units of eight tokens;
         2  3      6  7    |   10 11     14 15       the position of a token is (t, h, w).

    Args:
        frames: frames of a whole sample, a multiple of ``frames_per_unit``. A stream may run longer: units,
            positions and patches are defined for every further frame.
        height, width: a frame, in tokens.
        frames_per_unit: frames that are generated together.
        patch: pixels along the side of a token, so a frame has height * patch x width * patch pixels.

    The video layout of ACDiT (arXiv:2412.07720) and, with groups of latent frames, of causal video models.

    >>> import torch
    >>> layout = Frames(4, height=2, width=2, frames_per_unit=2)
    >>> layout.positions(torch.tensor([0, 3, 4, 15])).tolist(), layout.units(layout.length)
    ([[0, 0, 0], [0, 1, 1], [1, 0, 0], [3, 1, 1]], 2)
    """

    frames: int
    height: int
    width: int
    frames_per_unit: int = 1
    patch: int = 1

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.frames_per_unit, self.patch) < 1:
            raise SettingError(f"{self} has a setting below 1; pass 1 or more everywhere")
        if self.frames % self.frames_per_unit:
            raise SettingError(
                f"{self.frames} frames cannot be cut into units of {self.frames_per_unit}; pass a multiple of it"
            )

    @property
    def size(self) -> int:
        return self.frames_per_unit * self.height * self.width

    @property
    def axes(self) -> int:
        return 3

    @property
    def length(self) -> int:
        """Tokens of a whole sample."""
        return self.frames * self.height * self.width

    def units(self, length: int) -> int:
        return -(-length // self.size)

    def unit(self, index: Tensor) -> Tensor:
        return index // self.size

    def positions(self, index: Tensor) -> Tensor:
        frame = self.height * self.width
        inside = index % frame
        return torch.stack((index // frame, inside // self.width, inside % self.width), -1)

    def tags(self, length: int, document: int = 0, copy: int = 0) -> Tags:
        return tags_of(self, length, document, copy)

    def patchify(self, images: Tensor) -> Tensor:
        """Clips [b, t, height * patch, width * patch, c] -> tokens [b, t * height * width, patch * patch * c].

        ``t`` may be any number of frames: a sample, a unit, one frame.
        """
        b, t, high, wide, c = images.shape
        p = self.patch
        if (high, wide) != (self.height * p, self.width * p):
            raise SettingError(
                f"frames of {high} x {wide} pixels do not fill {self}; pass {self.height * p} x {self.width * p}"
            )
        grid = images.reshape(b, t, self.height, p, self.width, p, c)
        return grid.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t * self.height * self.width, p * p * c)

    def unpatchify(self, tokens: Tensor) -> Tensor:
        """The inverse: tokens [b, t * height * width, patch * patch * c] -> clips [b, t, ...pixels, c]."""
        b, n, dim = tokens.shape
        p = self.patch
        if n % (self.height * self.width) or dim % (p * p):
            raise SettingError(
                f"{n} tokens of {dim} numbers are no frames of {self}; "
                f"pass a multiple of {self.height * self.width} tokens of {p * p} per channel"
            )
        grid = tokens.reshape(b, -1, self.height, self.width, p, p, dim // (p * p))
        return grid.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, -1, self.height * p, self.width * p, dim // (p * p))
