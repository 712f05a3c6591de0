"""Blocks of different sizes and steps, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from ..errors import SettingError
from ..grid import Levels, Move

__all__ = ["Successive"]


@dataclass(frozen=True)
class Successive:
    """Blocks of ``sizes[b]`` units behind the prompt, each in ``steps[b]`` moves; steps are counted through them all.

    ::

        move     0  1  2  3  4  (sizes 3 and 2, steps 2 and 1, a prompt of 1; then the same again)
        unit 0   .  .  .  .  .
        unit 1   0  1  .  .  .
        unit 2   0  1  .  .  .
        unit 3   0  1  .  .  .
        unit 4   .  .  2  .  .
        unit 5   .  .  2  .  .
        unit 6   .  .  .  0  1

    So pace and rule know how far the whole answer is, not how far the block is. With one block it is ``BehindPrompt``.

    Args:
        sizes: units of every block. steps: moves that every block takes.

    arXiv:2509.23924, whose blocks grow (``growing``). Raises ``SettingError`` for sizes and steps that are not as many,
    or below 1.

    >>> Successive((3, 4, 9), (2, 1, 1))(Levels.start(16))
    Move(units=(0, 1, 2), step=(0, 0, 0), of=4, blind=False, together=16)
    """

    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.steps) or min((*self.sizes, *self.steps), default=0) < 1:
            raise SettingError(f"sizes are {self.sizes} and steps {self.steps}; pass as many of both, 1 or more each")

    @classmethod
    def even(cls, size: int, blocks: int, steps: int) -> Successive:
        """``size`` units in equal blocks of equal steps; ``SettingError`` where they do not divide."""
        if size % blocks or steps % blocks or (blocks > 1 and size % steps):
            raise SettingError(
                f"{size} tokens and {steps} steps do not divide into {blocks} blocks of whole steps; change one of them"
            )
        return cls((size // blocks,) * blocks, (steps // blocks,) * blocks)

    @classmethod
    def growing(cls, size: int, blocks: int) -> Successive:
        """``size`` = L units in S = floor(log2 L) steps of 1, 2, 4, ... tokens, the last taking the rest; every block
        but the first is one step.

        Raises ``SettingError`` for more blocks than steps.

        >>> Successive.growing(128, 4)
        Successive(sizes=(15, 16, 32, 65), steps=(4, 1, 1, 1))
        """
        count = max(1, size.bit_length() - 1)
        if not 1 <= blocks <= count:
            raise SettingError(f"{size} tokens take {count} doubling steps, in 1 to {count} blocks; blocks is {blocks}")
        quotas = [2**step for step in range(count - 1)]
        quotas.append(size - sum(quotas))
        first = count - blocks + 1
        return cls((sum(quotas[:first]), *quotas[first:]), (first, *[1] * (blocks - 1)))

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        first = levels.frontier(start)
        if first == len(levels):
            return None
        together = sum(self.sizes)
        ends, done = list(accumulate(self.sizes)), [0, *accumulate(self.steps)]
        place = (first - levels.prompt) % together
        block = next(b for b, end in enumerate(ends) if place < end)
        end = first - place + ends[block]
        units = tuple(range(end - self.sizes[block], min(end, len(levels))))
        step = done[block] + min(int(levels.visits[first]), self.steps[block] - 1)
        within = (done[block], done[block + 1]) if len(self.sizes) > 1 else None
        return Move(units, (step,) * len(units), done[-1], together=together, within=within, whole=True)
