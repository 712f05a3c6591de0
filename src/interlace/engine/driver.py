"""The loop around an engine: what is asked comes in between its moves, what they find goes out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
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


@dataclass
class _One:
    """A request: its number in the engine, how many events it has given, and how many it may give (None: all)."""

    number: int
    allowed: int | None
    given: int = 0

    @property
    def full(self) -> bool:
        return self.allowed is not None and self.given >= self.allowed


class Driver:
    """Moves an engine while there is work, and waits while there is none.

    ``add``, ``allow``, ``cancel`` and ``close`` may be called from any thread and never wait for a forward. ``run``
    returns when the driver was closed, and raises what the engine raises; ``forget`` and ``run`` again to go on without
    the requests of that moment.

    tell: given what every turn found, and where the engine stands; called in the thread of ``run``.
    """

    def __init__(self, engine: Engine, tell: Callable[[Found, Stats], None]) -> None:
        self.engine, self.tell = engine, tell
        self._inbox: deque[Callable[[], Found]] = deque()
        self._ones: dict[Hashable, _One] = {}
        self._names: dict[int, Hashable] = {}
        self._work = threading.Condition()
        self._closed = False

    def add(self, name: Hashable, prepared: Prepared, allowed: int | None = None) -> None:
        """allowed: how many events it may give before it is paused; None: all."""
        self._put(partial(self._add, name, prepared, allowed))

    def allow(self, name: Hashable, allowed: int) -> None:
        """The request may give so many events, counted from its first; it goes on if it was paused before that."""
        self._put(partial(self._allow, name, allowed))

    def cancel(self, name: Hashable) -> None:
        """The request leaves the engine before its next move, if it is there."""
        self._put(partial(self._cancel, name))

    def close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify()

    def run(self) -> None:
        while not self._closed:
            found: Found = []
            while self._inbox:
                found += self._inbox.popleft()()
            for one in self.engine.step():
                number = one.request if isinstance(one, Failure) else one.row
                what = one.error if isinstance(one, Failure) else one
                name = self._names[number]
                found.append((name, what))
                if ended(what):
                    del self._ones[self._names.pop(number)]
                    continue
                self._ones[name].given += 1
                if self._ones[name].full:
                    self.engine.pause(number)
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
        self._ones.clear()

    def _put(self, do: Callable[[], Found]) -> None:
        with self._work:
            self._inbox.append(do)
            self._work.notify()

    # before the next move; what is refused

    def _add(self, name: Hashable, prepared: Prepared, allowed: int | None) -> Found:
        try:
            number = self.engine.add(prepared)
        except InterlaceError as error:
            return [(name, error)]
        self._ones[name], self._names[number] = _One(number, allowed), name
        return []

    def _allow(self, name: Hashable, allowed: int) -> Found:
        one = self._ones.get(name)
        if one is not None:
            if one.allowed is not None:
                one.allowed = max(one.allowed, allowed)  # an earlier one may come later
            if not one.full:
                self.engine.resume(one.number)
        return []

    def _cancel(self, name: Hashable) -> Found:
        one = self._ones.pop(name, None)
        if one is not None:
            self.engine.cancel(one.number)
            del self._names[one.number]
        return []
