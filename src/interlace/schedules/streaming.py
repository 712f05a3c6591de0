"""A window that begins at the first token that is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import SettingError
from ..grid import Levels, Move

__all__ = ["Streaming"]


@dataclass(frozen=True)
class Streaming:
    """The first unit that is not clean and the ``window - 1`` units behind it are decided on together, in every move.

    ::

        moves of a window of 3; x is filled in this move, o was filled before
        unit 0   x  .  .  .
        unit 1   -  x  .  .
        unit 2   x  o  .  .
        unit 3   .  -  x  .
        unit 4   .  .  -  x

    There is no border that a window waits for: as soon as its first unit is known it moves on, over all that is filled
    already. How many units a move fills is the reveal rule's choice; a path that is drawn fills the whole window.

    Refilled ``before`` the forward it begins there, so that the forward is given ``window`` units besides those that it
    commits. Refilled ``after`` it, it begins at the first unit that the forward before could not commit: it never holds
    more than ``window`` units, and a move may have nothing to decide, where all of them wait to be committed.

    Args:
        window: units that are decided on together. refill: when new units come into the window.

    WeDLM (arXiv:2512.22737): ``before`` is the order of its engine, ``after`` that of its Algorithm 1. Raises
    ``SettingError`` for a window below 1, and for another word.

    >>> Streaming(2)(Levels.start(3))
    Move(units=(0, 1), step=(0, 0), of=1, blind=False, together=2)
    """

    window: int
    refill: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        if self.refill not in ("before", "after"):
            raise SettingError(f"refill is {self.refill!r}; pass 'before' or 'after' (the forward)")
        if self.window < 1:
            raise SettingError(f"window is {self.window}; pass 1 or more")

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        first = levels.frontier(start)
        if first == len(levels):
            return None
        # what was known from the start may reach beyond a window
        begin = first if self.refill == "before" else max(levels.past, first - self.window)
        units = tuple(range(begin, min(begin + self.window, len(levels))))
        return Move(units, (0,) * len(units), 1, together=self.window)
