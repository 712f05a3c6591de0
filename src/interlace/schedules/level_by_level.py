"""Level after level, each one swept over all units: hierarchical denoising."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import SettingError
from ..grid import Levels, Move

__all__ = ["LevelByLevel"]


@dataclass(frozen=True)
class LevelByLevel:
    """All units take their first step, one after the other; then all of them the second; and so on.

    ::

        move     0  1  2  3  4  5     (2 steps; the numbers are the steps)
        unit 0   0  .  .  1  .  .
        unit 1   .  0  .  .  1  .
        unit 2   .  .  0  .  .  1

    The two loops of ``BlockByBlock``, swapped. A unit is predicted from earlier units at its own *output* level, so
    that what they got wrong reaches it damped by the noise that is still on top. The move is the first of the units
    that have had the fewest moves, clean ones aside.

    Args:
        steps: moves that a unit takes from noise to clean.

    HiAR (arXiv:2603.08703). With one step the same path as ``BlockByBlock(1)``, with one unit as ``AllAtOnce(steps)``.

    >>> from interlace.grid import walk
    >>> [(move.units, move.step) for _, move in walk(LevelByLevel(2), units=2)]
    [((0,), (0,)), ((1,), (0,)), ((0,), (1,)), ((1,), (1,))]
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SettingError(f"steps is {self.steps}; pass 1 or more")

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        noisy = start + np.flatnonzero(levels.value[start:] > 0.0)
        if not len(noisy):
            return None
        unit = int(noisy[levels.visits[noisy].argmin()])
        return Move((unit,), (min(int(levels.visits[unit]), self.steps - 1),), self.steps)
