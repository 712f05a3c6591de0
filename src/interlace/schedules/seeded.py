"""Block by block, each begun by the token that the past alone predicts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import SettingError
from ..grid import Levels, Move
from .block_by_block import BlockByBlock

__all__ = ["Seeded"]


@dataclass(frozen=True)
class Seeded:
    """``BlockByBlock``, but a block of which nothing is known begins with a blind move: its first token comes from the
    forward that commits the block before it, as in autoregression, and the others are denoised behind it.

    ::

        move     0  1  2  3  4  5     (3 steps; b is blind)
        unit 0   b  1  2  .  .  .
        unit 1   .  .  .  b  1  2

    For processes that predict a token at the one before it. A unit that is partly known (a prompt that ends inside it)
    has its first token and begins as in ``BlockByBlock``.

    Args:
        steps: moves that a unit takes from noise to clean, the blind one included.
        every: units per block; only the first unit of a block is seeded.

    Fast-dLLM v2 (arXiv:2509.26328).

    >>> from interlace.grid import walk
    >>> [(move.units, move.step, move.blind) for _, move in walk(Seeded(2), units=1)]
    [((0,), (0,), True), ((0,), (1,), False)]
    """

    steps: int
    every: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SettingError(f"steps is {self.steps}; pass 1 or more")
        if self.every < 1:
            raise SettingError(f"every is {self.every}; pass 1 or more units per block")

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        move = BlockByBlock(self.steps)(levels, start)
        if move is None:
            return None
        unit = move.units[0]
        return replace(move, blind=unit % self.every == 0 and bool(levels.value[unit] == 1.0))
