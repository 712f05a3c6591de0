"""Block by block, counted from the end of the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingError
from ..grid import Levels, Move

__all__ = ["BehindPrompt"]


@dataclass(frozen=True)
class BehindPrompt:
    """Blocks of ``size`` units whose first begins where the prompt ends, each in ``steps`` moves on all its units.

    ::

        move     0  1  2  3     (units of one token, size 2, 2 steps, a prompt of 1; x: decided on)
        unit 0   .  .  .  .
        unit 1   x  x  .  .
        unit 2   x  x  .  .
        unit 3   .  .  x  x
        unit 4   .  .  x  x

    With a block as long as the answer: full diffusion. ``BlockByBlock`` counts its blocks from the first token of the
    row instead, as two-copy training does.

    Args:
        size: units of a block. steps: moves that a block takes.

    LLaDA (arXiv:2502.09992), which calls blocks shorter than the answer semi-autoregressive.

    >>> BehindPrompt(2, 2)(Levels.start(4, clean=1))
    Move(units=(1, 2), step=(0, 0), of=2, blind=False, together=2)
    """

    size: int
    steps: int

    def __post_init__(self) -> None:
        if self.size < 1 or self.steps < 1:
            raise SettingError(f"size is {self.size} and steps {self.steps}; pass 1 or more of both")

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        first = levels.frontier(start)
        if first == len(levels):
            return None
        begin = first - (first - levels.prompt) % self.size
        units = tuple(range(begin, min(begin + self.size, len(levels))))
        step = min(int(levels.visits[first]), self.steps - 1)
        return Move(units, (step,) * len(units), self.steps, together=self.size, whole=True)
