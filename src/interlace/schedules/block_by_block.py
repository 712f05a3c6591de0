"""One unit at a time, in several steps: block diffusion."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingError
from ..grid import Levels, Move

__all__ = ["BlockByBlock"]


@dataclass(frozen=True)
class BlockByBlock:
    """The first unit that is not clean takes its next step; the unit behind it waits until it is clean.

    ::

        move     0  1  2  3     (2 steps; the numbers are the steps)
        unit 0   0  1  .  .
        unit 1   .  .  0  1

    A unit that is clean early (adaptive decoding) lets the next one start at once; a unit that is still partly noisy
    after its last step is given that step again.

    Args:
        steps: moves that a unit takes from noise to clean.

    Block diffusion: BD3-LM (arXiv:2503.09573), SDAR (arXiv:2510.06303), ACDiT (arXiv:2412.07720).

    >>> from interlace.grid import walk
    >>> [(move.units, move.step) for _, move in walk(BlockByBlock(2), units=2)]
    [((0,), (0,)), ((0,), (1,)), ((1,), (0,)), ((1,), (1,))]
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SettingError(f"steps is {self.steps}; pass 1 or more")

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        unit = levels.frontier(start)
        if unit == len(levels):
            return None
        return Move((unit,), (min(int(levels.visits[unit]), self.steps - 1),), self.steps)
