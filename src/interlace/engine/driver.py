"""The loop around an engine: what is asked comes in between its moves, what they find goes out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from ..errors import InterlaceError
from ..generation import Event
from .engine import Engine, Failure, Stats

if TYPE_CHECKING:
    from .preparing import Prepared

__all__ = ["Driver", "Found", "ended"]

Found = list[tuple[Hashable, Event | Exception]]
"""What a move found, by the names under which the requests were added: their events, and why they failed."""


def ended(one: Event | Exception) -> bool:
    """Whether it is the last that a request gives."""
    return isinstance(one, Exception) or one.last


class Driver:
    """Moves an engine while there is work, and waits while there is none.

    ``add``, ``cancel`` and ``close`` may be called from any thread and never wait for a forward. ``run`` returns when
    the driver was closed, and raises what the engine raises; ``forget`` and ``run`` again to go on without the requests
    of that moment.

    tell: given what every turn found, and where the engine stands; called in the thread of ``run``.
    """

    def __init__(self, engine: Engine, tell: Callable[[Found, Stats], None]) -> None:
        self.engine, self.tell = engine, tell
        self._inbox: deque[tuple[Hashable, Prepared | None]] = deque()
        self._numbers: dict[Hashable, int] = {}
        self._names: dict[int, Hashable] = {}
        self._work = threading.Condition()
        self._closed = False

    def add(self, name: Hashable, prepared: Prepared) -> None:
        self._put(name, prepared)

    def cancel(self, name: Hashable) -> None:
        """The request leaves the engine before its next move, if it is there."""
        self._put(name, None)

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify()

    def run(self) -> None:
        while not self._closed:
            found = self._take()
            for one in self.engine.step():
                number = one.request if isinstance(one, Failure) else one.row
                what = one.error if isinstance(one, Failure) else one
                found.append((self._names[number], what))
                if ended(what):
                    del self._numbers[self._names.pop(number)]
            self.tell(found, self.engine.stats())
            if not self.engine.busy:
                with self._work:
                    if not self._inbox and not self._closed:
                        self._work.wait()

    def forget(self) -> None:
        """The engine is left without requests, and so is the inbox."""
        self._inbox.clear()
        for number in self._names:
            self.engine.cancel(number)
        self._names.clear()
        self._numbers.clear()

    def _put(self, name: Hashable, prepared: Prepared | None) -> None:
        with self._work:
            self._inbox.append((name, prepared))
            self._work.notify()

    def _take(self) -> Found:
        """Take in what was asked since the last move; what is refused."""
        refused: Found = []
        while self._inbox:
            name, prepared = self._inbox.popleft()
            if prepared is None:
                number = self._numbers.pop(name, None)
                if number is not None:
                    self.engine.cancel(number)
                    del self._names[number]
                continue
            try:
                number = self.engine.add(prepared)
                self._numbers[name], self._names[number] = number, name
            except InterlaceError as error:
                refused.append((name, error))
        return refused
