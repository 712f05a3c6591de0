"""What a stream has been given, so that a request can be done again from its beginning without anyone noticing."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EngineError

if TYPE_CHECKING:
    from ..generation import Event

__all__ = ["Replay"]


class Replay:
    """The same seed gives the same events, wherever and in whatever company: those that were given are left out.

    deaths: of the processes that had the request, since it last went on.

    >>> from torch import tensor
    >>> from interlace.generation import Event
    >>> replay, event = Replay(), Event(0, 0, 0, tensor([5, 6]), True, 0.0, 1)
    >>> replay.new(event), replay.died(), replay.new(event)
    (True, None, False)
    """

    def __init__(self) -> None:
        self.deaths = 0
        self._told: list[bytes] = []  # a digest of every event
        self.place = 0
        """Events that it has been given since it began, those that were given before included."""

    def begin(self) -> None:
        """It begins again."""
        self.place = 0

    def died(self) -> None:
        """Whoever had the request is gone; the next begins again."""
        self.deaths += 1
        self.begin()

    def new(self, event: Event) -> bool:
        """Whether it is the first time that this event is given.

        Raises ``EngineError`` when it is another than was given in its place before.
        """
        place, mark = self.place, _mark(event)
        self.place += 1
        if place == len(self._told):
            self._told.append(mark)
            self.deaths = 0
            return True
        if self._told[place] != mark:
            cause = "a process of the engine ended, and another gave other tokens for the same seed; ask again"
            raise EngineError(cause)
        return False


def _mark(event: Event) -> bytes:
    """A digest of what a unit is; not of how sure the model was, which may differ in the last bit between devices."""
    content = np.ascontiguousarray(event.content.cpu().numpy())
    told = f"{event.unit} {event.start} {event.clean} {event.last} ".encode() + content.tobytes()
    return blake2b(told, digest_size=8).digest()
