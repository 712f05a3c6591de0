"""All units together: diffusion of the whole sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import SettingError
from ..grid import Levels, Move

__all__ = ["AllAtOnce"]


@dataclass(frozen=True)
class AllAtOnce:
    """Every unit that is not clean takes its next step, all of them in the same move.

    ::

        move     0  1  2        (3 steps; the numbers are the steps)
        unit 0   0  1  2
        unit 1   0  1  2
        unit 2   0  1  2

    Args:
        steps: moves that a unit takes from noise to clean; without adaptive decoding also the length of the path.

    Full-sequence diffusion: LLaDA (arXiv:2502.09992), DiT (arXiv:2212.09748).

    >>> from interlace.grid import walk
    >>> [(move.units, move.step) for _, move in walk(AllAtOnce(2), units=3)]
    [((0, 1, 2), (0, 0, 0)), ((0, 1, 2), (1, 1, 1))]
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SettingError(f"steps is {self.steps}; pass 1 or more")

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        units = start + np.flatnonzero(levels.value[start:] > 0.0)
        if not len(units):
            return None
        step = np.minimum(levels.visits[units], self.steps - 1)
        return Move(tuple(units.tolist()), tuple(step.tolist()), self.steps)
