"""Rotary positions in any number of dimensions, with the published ways of stretching them.

A head of d channels is cut into one segment per axis. Segment j, of d_j channels, is an ordinary one-dimensional
RoPE over the axis' coordinate m_j: channel pair (i, i + d_j/2) turns by the angle m_j * f_ji. Because every pair
turns by one axis only, |R q| = |q| and q.k depends on coordinate differences only, in any dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingError

__all__ = ["Rope", "RopeScaling", "apply_rope"]


@dataclass(frozen=True)
class RopeScaling:
    """How the frequencies of a longer context derive from those of the original one; field names as published.

    type: ``linear`` (all angles divided by ``factor``), ``llama3`` (only the slow ones, with a smooth ramp), ``yarn``
    (ramp by rotations within the original context, and attention temperature), or ``dynamic``: as they are within the
    original context. Beyond it ``dynamic`` would turn every token by the length of the longest row of its batch (NTK),
    so a row would change with its company and keys that are kept would be wrong: a model with it ends at its original
    context.
    """

    type: str
    factor: float = 1.0
    original_max_position_embeddings: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


@dataclass(frozen=True)
class Rope:
    """Rotary positions: the base of every axis and the share of the head that it gets.

    ``bases`` has one entry per axis; ``split`` gives the relative widths of the segments (empty: equal).

    >>> Rope((100.0, 100.0)).segments(64)
    [32, 32]
    >>> Rope((100.0,) * 3, split=(2, 3, 3)).segments(64)
    [16, 24, 24]
    """

    bases: tuple[float, ...] = (10000.0,)
    split: tuple[int, ...] = ()
    scaling: RopeScaling | None = None

    @property
    def axes(self) -> int:
        return len(self.bases)

    def segments(self, head_dim: int) -> list[int]:
        """Channels per axis; each even, all of them together ``head_dim``."""
        split = self.split or (1,) * self.axes
        sizes = [head_dim * s // sum(split) for s in split]
        if len(split) != self.axes or sum(sizes) != head_dim or any(s % 2 for s in sizes):
            raise SettingError(
                f"a head of {head_dim} channels cannot be cut {list(split)} ways over {self.axes} axes into even "
                "segments; change head_dim or rope split"
            )
        return sizes

    def frequencies(self, head_dim: int) -> list[Tensor]:
        """Angles per unit of coordinate, one float32 tensor [d_j / 2] per axis, scaling applied."""
        out = []
        for base, size in zip(self.bases, self.segments(head_dim), strict=True):
            plain = 1.0 / (base ** (torch.arange(0, size, 2, dtype=torch.int64).float() / size))
            out.append(_scaled(plain, base, size, self.scaling))
        return out

    @property
    def magnitude(self) -> float:
        """Factor on cos and sin (YaRN's attention temperature; 1 otherwise)."""
        s = self.scaling
        if s is None or s.type != "yarn":
            return 1.0
        if s.attention_factor is not None:
            return s.attention_factor

        def scale(m: float) -> float:
            return 1.0 if s.factor <= 1 else 0.1 * m * math.log(s.factor) + 1.0

        if s.mscale and s.mscale_all_dim:
            return scale(s.mscale) / scale(s.mscale_all_dim)
        return scale(1.0)

    def angles(
        self, positions: Tensor, head_dim: int, frequencies: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """cos and signed sin, float32 [..., head_dim], for coordinates [..., axes] (just [...] when there is one axis).

        A pair (a, b) turns to (a cos - b sin, b cos + a sin): the sine is negative on the first half of a segment.
        ``frequencies``: those of ``frequencies(head_dim)``, where they are at hand (on a GPU, copying them waits).
        """
        if self.axes == 1:
            positions = positions.unsqueeze(-1)
        parts = []
        for axis, frequency in enumerate(frequencies or self.frequencies(head_dim)):
            turn = positions[..., axis : axis + 1].float() * frequency.to(positions.device)
            parts += [-turn, turn]
        angle = torch.cat(parts, -1)
        return angle.cos() * self.magnitude, angle.sin() * self.magnitude


def _scaled(plain: Tensor, base: float, size: int, s: RopeScaling | None) -> Tensor:
    if s is None or s.type in ("default", "dynamic"):
        return plain
    if s.type == "linear":
        return plain / s.factor
    if s.type == "llama3":
        wavelength = 2 * math.pi / plain
        low = s.original_max_position_embeddings / s.low_freq_factor
        high = s.original_max_position_embeddings / s.high_freq_factor
        smooth = (s.original_max_position_embeddings / wavelength - s.low_freq_factor) / (
            s.high_freq_factor - s.low_freq_factor
        )
        ramp = (1 - smooth) * plain / s.factor + smooth * plain
        return torch.where(wavelength > low, plain / s.factor, torch.where(wavelength < high, plain, ramp))
    if s.type == "yarn":

        def channel(rotations: float) -> float:
            turns = s.original_max_position_embeddings / (rotations * 2 * math.pi)
            return size * math.log(turns) / (2 * math.log(base))

        first, last = channel(s.beta_fast), channel(s.beta_slow)
        if s.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, size - 1)
        slope = (torch.arange(size // 2, dtype=torch.float32) - first) / max(last - first, 0.001)
        keep = 1 - slope.clamp(0, 1)
        return plain / s.factor * (1 - keep) + plain * keep
    raise SettingError(f"unknown rope scaling {s.type!r}; known: default, linear, dynamic, llama3, yarn")


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor, segments: list[int]) -> Tensor:
    """Turn the channel pairs of x [rows, heads, n, d] by the angles behind cos and sin [rows or 1, 1, n, d].

    ``sin`` carries the sign of the rotation (minus on the first half of a segment): see ``Rope.angles``.
    """
    swapped = [part.roll(part.shape[-1] // 2, -1) for part in x.split(segments, -1)]
    return torch.addcmul(x * cos, swapped[0] if len(swapped) == 1 else torch.cat(swapped, -1), sin)
