"""Unit after unit, each a few moves behind the one before it: diffusion along a diagonal."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingError
from ..grid import Levels, Move

__all__ = ["Diagonal"]


@dataclass(frozen=True)
class Diagonal:
    """A unit starts ``lag`` moves after the one before it, so several units fall together, the earlier ones ahead.

    ::

        move     0  1  2  3  4  5     (3 steps, window 3, lag 1; the numbers are the steps)
        unit 0   0  1  2  .  .  .
        unit 1   .  0  1  2  .  .
        unit 2   .  .  0  1  2  .
        unit 3   .  .  .  0  1  2

    The window begins at the first unit that is not clean and moves on when that unit becomes clean; units behind its
    end wait. So a unit is always predicted from earlier units that are at most as noisy as itself, and the number of
    units in flight, hence the work of a move, is bounded in a stream of any length.

    The corner cases are the other paths: ``lag=steps`` with a window of 1 is ``BlockByBlock(steps)``; ``lag=0`` with
    a window over the whole row is ``AllAtOnce(steps)``.

    Args:
        steps: moves that a unit takes from noise to clean.
        window: most units that are in flight at once, 1 or more.
        lag: moves between the start of a unit and the start of the next one, 0 to ``steps``.

    The sampler of diffusion forcing (arXiv:2407.01392), rolling diffusion (arXiv:2402.09470) and CMDM
    (arXiv:2602.22594). With ``lag=1`` and a window of ``steps`` it runs the cells of ``LevelByLevel`` that do not
    depend on each other in one move (the pipeline of HiAR, arXiv:2603.08703).

    >>> from interlace.grid import walk
    >>> for _, move in walk(Diagonal(steps=2, window=2, lag=1), units=3):
    ...     print(move.units, move.step)
    (0,) (0,)
    (0, 1) (1, 0)
    (1, 2) (1, 0)
    (2,) (1,)
    """

    steps: int
    window: int
    lag: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SettingError(f"steps is {self.steps}; pass 1 or more")
        if self.window < 1:
            raise SettingError(f"window is {self.window}; pass 1 or more")
        if not 0 <= self.lag <= self.steps:
            raise SettingError(f"lag is {self.lag} with {self.steps} steps; pass 0 (together) to steps (one by one)")

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        value, visits, last = levels.value, levels.visits, self.steps - 1
        first = levels.frontier(start)
        units: list[int] = []
        step: list[int] = []
        for unit in range(first, min(first + self.window, len(levels))):
            if value[unit] <= 0.0:
                continue
            if units and visits[units[-1]] < self.lag:
                break  # the unit ahead is not far enough ahead; nor then is any later one
            units.append(unit)
            step.append(min(int(visits[unit]), last))
        return Move(tuple(units), tuple(step), self.steps) if units else None
