"""The engine: requests come and go between moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import InterlaceError, SettingError

if TYPE_CHECKING:
    from ..generation import Event
    from ..model import Model
    from .request import Request

__all__ = ["Engine", "Failure", "Stats"]


@dataclass(frozen=True)
class Failure:
    """The end of a request that could not be finished, and why."""

    request: int
    error: Exception


@dataclass(frozen=True)
class Stats:
    """Where an engine stands; counts are since its start.

    running, waiting: requests. slots, slots_used: tokens that the memory can hold, and holds for requests under way.
    prompt_tokens: of all prompts; cached_tokens: those of them that were found in memory. tokens: new ones that became
    final. moves: steps of the engine; forwards: network calls; row_moves: moves of single rows, units: units that
    became clean. preemptions: rows that had to give their memory back for a while.
    """

    running: int = 0
    waiting: int = 0
    slots: int = 0
    slots_used: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    moves: int = 0
    forwards: int = 0
    row_moves: int = 0
    units: int = 0
    preemptions: int = 0


class Engine:
    """Requests that share a model: ``add`` them, ``step`` until nothing is left, ``cancel`` what nobody wants any more.

    ``step`` makes one move for every row that is under way and returns what became clean (``Event.row`` is the number
    of the request). A request gives the same alone or among others.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._rows: dict[int, Iterator[Event]] = {}
        self._next = 0

    @property
    def busy(self) -> bool:
        return bool(self._rows)

    def add(self, request: Request) -> int:
        """Queue a request; its number. ``SettingError`` for one that cannot be generated."""
        if request.length < 0:
            raise SettingError(f"the length is {request.length}; pass 0 or more")
        model = self.model.with_(**request.settings)
        options = {"stop": request.stop} if request.stop is not None else {}
        rows = model.stream(
            [request.prompt], request.length, seed=request.seed, drafts=request.drafts, details=request.details,
            constraints=[request.constraint], places=None if request.places is None else [request.places], **options,
        )  # fmt: skip
        number, self._next = self._next, self._next + 1
        self._rows[number] = rows
        return number

    def cancel(self, number: int) -> None:
        """Forget a request; nothing happens when it has ended."""
        self._rows.pop(number, None)

    def step(self) -> list[Event | Failure]:
        """One move of everything that is under way."""
        found: list[Event | Failure] = []
        for number, events in list(self._rows.items()):
            try:
                event = next(events, None)
            except InterlaceError as error:
                found.append(Failure(number, error))
                event = None
            if event is not None:
                found.append(replace(event, row=number))
            if event is None or event.last:
                del self._rows[number]
        return found

    def stats(self) -> Stats:
        return Stats(running=len(self._rows))
