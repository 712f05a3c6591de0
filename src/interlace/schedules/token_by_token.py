"""One unit at a time, in one step: autoregression."""

from __future__ import annotations

from dataclasses import dataclass

from ..grid import Levels, Move

__all__ = ["TokenByToken"]


@dataclass(frozen=True)
class TokenByToken:
    """The first unit that is not clean falls from noise to clean in one step; then the next one.

    ::

        move     0  1  2        level
        unit 0   0  .  .        1 |  |  |
        unit 1   .  0  .          |  |  |
        unit 2   .  .  0        0 v  v  v

    With units of one token this is next-token prediction. The same path as ``BlockByBlock(1)``.

    >>> from interlace.grid import walk
    >>> [move.units for _, move in walk(TokenByToken(), units=3)]
    [(0,), (1,), (2,)]
    """

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        unit = levels.frontier(start)
        return None if unit == len(levels) else Move((unit,), (0,), 1)
