"""Rows under way: what becomes final of them, piece by piece, in whichever order it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InterlaceError
from ..generation import OPEN
from .wire import Refused, refusal

if TYPE_CHECKING:
    from ..engine import Stream
    from ..generation import Event
    from .asking import Ask
    from .metrics import Metrics
    from .served import Served

__all__ = ["Answer", "Piece"]


@dataclass(frozen=True)
class Piece:
    """What an event adds to a row. text: what is final now; first, last: the tokens whose text that is. unit: the unit
    as it stands (where units are asked for). finish: why the row has ended, if it has."""

    choice: int
    text: str
    first: int
    last: int
    unit: dict[str, Any] | None
    finish: str | None


class Answer:
    """The rows of one request. ``begin`` hands them to the engine, ``pieces`` yields what they become, ``end`` forgets
    them (again and again, if need be). units: pieces carry their unit, drafts or not. ahead: how many events of a row
    may wait for ``pieces``; then it is paused in the engine. on_failure: called when a row fails."""

    def __init__(
        self, served: Served, asks: Sequence[Ask], seconds: float, metrics: Metrics, units: bool = False,
        ahead: int | None = None, on_failure: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.served, self.asks, self.seconds = served, list(asks), seconds
        self._counts, self._units = metrics.of(served.name), units
        self._ahead, self._on_failure = ahead, on_failure
        self._streams: list[Stream] = []
        self._ended = self._late = False
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self.until = self._began + seconds
        """When it must have ended, on the clock of the loop."""

    async def begin(self) -> None:
        """``Refused`` for what cannot be generated, and when too many wait; then nothing has begun."""
        loop = asyncio.get_running_loop()

        def submit() -> None:
            for ask in self.asks if not self._ended else ():
                _ = self.served.words if self._wanted(ask) else None  # of a large vocabulary that takes a while
                stream = self.served.service.submit(ask.request, loop, self._ahead)
                stream.on_failure = self._on_failure
                self._streams.append(stream)

        submitted = asyncio.ensure_future(asyncio.to_thread(submit))
        try:
            await asyncio.shield(submitted)
        except asyncio.CancelledError:
            submitted.add_done_callback(self._left)
            raise
        except InterlaceError as error:
            self.end()
            raise self._refusal(error, _field(error)) from None
        self._counts.began([len(ask.prompt.ids) for ask in self.asks])

    async def pieces(self) -> AsyncIterator[Piece]:
        """Everything, until all rows have ended. Raises ``Refused`` for what goes wrong on the way."""
        left, last = set(range(len(self._streams))), dict.fromkeys(range(len(self._streams)), self._began)
        first: dict[int, float] = {}
        late = asyncio.get_running_loop().call_at(self.until, self._expire)
        try:
            async with aclosing(self._events()) as events:  # type: ignore[type-var]
                async for number, event in events:
                    if number not in left:
                        continue
                    if event is None and self._late:
                        raise Refused(
                            f"the answer has not ended after {self.seconds:g} s, the server's limit; ask for less",
                            code="timeout",
                            status=504,
                        )
                    writing = self.asks[number].writing
                    before = len(writing.tokens)
                    piece = self._piece(number, event)
                    fresh = len(writing.tokens) - before
                    if event is not None:
                        self.asks[number].cached = event.cached
                    if fresh > 0:
                        now = self._clock()
                        began = event is not None and number not in first
                        self._counts.wrote(fresh, now - last[number], event.waited if event and began else None)
                        last[number] = now
                        first.setdefault(number, now)
                    if piece.finish is not None:
                        left.discard(number)
                        self._streams[number].cancel()
                        self._finished(piece.finish, number, first)
                    yield piece
                    if not left:
                        return
        except InterlaceError as error:
            raise self._refusal(error) from None
        finally:
            late.cancel()
            for number in left:
                self._finished("abort", number, first)
            self._counts.ended([ask.writing for ask in self.asks])
            self.end()

    def check(self) -> None:
        """Raises ``Refused`` when a row has failed, whatever is left to be read of it."""
        for stream in self._streams:
            if isinstance(stream.failed, InterlaceError):
                raise self._refusal(stream.failed)

    def _finished(self, reason: str, number: int, first: dict[int, float]) -> None:
        now = self._clock()
        decoding = now - first[number] if number in first else None
        self._counts.finished(reason, self.asks[number].writing, now - self._began, decoding)

    async def _events(self) -> AsyncIterator[tuple[int, Event | None]]:
        """What comes of all rows, each with a None at its end."""
        if len(self._streams) == 1:
            async for event in self._streams[0]:
                yield 0, event
            yield 0, None
            return
        queue: asyncio.Queue[tuple[int, Event | Exception | None]] = asyncio.Queue(64)
        readers = [asyncio.create_task(_read(number, one, queue)) for number, one in enumerate(self._streams)]
        try:
            while True:
                number, found = await queue.get()
                if isinstance(found, Exception):
                    raise found
                yield number, found
        finally:
            for reader in readers:
                reader.cancel()

    def _expire(self) -> None:
        self._late = True
        for stream in self._streams:
            stream.cancel()

    def _piece(self, number: int, event: Event | None) -> Piece:
        ask = self.asks[number]
        writing, text, unit = ask.writing, "", None
        first = writing.settled
        if event is None:
            writing.done = True
        else:
            text = writing.add(event)
            unit = _unit(ask, event, self.served.words) if self._wanted(ask) else None
        finish = ask.finish if writing.done else None
        return Piece(number, text, first, writing.settled, unit, finish)

    def _wanted(self, ask: Ask) -> bool:
        """Whether its pieces carry their unit."""
        return self._units or ask.request.drafts

    def _left(self, submitted: asyncio.Future[None]) -> None:
        """Nobody waits for what has been submitted meanwhile."""
        if not submitted.cancelled():
            submitted.exception()
        self.end()

    def _refusal(self, error: InterlaceError, field: str | None = None) -> Refused:
        told = refusal(error, field)
        if told.status == 500 and not self.served.service.alive:
            told.status = 503
        return told

    def end(self) -> None:
        """Whatever is still under way leaves the engine before its next move."""
        self._ended = True
        streams, self._streams = self._streams, []
        for one in streams:
            one.cancel()


async def _read(number: int, stream: Stream, queue: asyncio.Queue[tuple[int, Event | Exception | None]]) -> None:
    try:
        async for event in stream:
            await queue.put((number, event))
        await queue.put((number, None))
    except Exception as error:
        await queue.put((number, error))


def _unit(ask: Ask, event: Event, words: Sequence[bytes]) -> dict[str, Any]:
    """A unit as it stands, without what of it was given. A token that is still masked has no id. What is final adds up
    to the answer's text: a character of several tokens belongs to the last of them; a special token has no text, nor
    has what lies behind a stop. A token that is final before one to its left reads as it does alone. One that holds
    a part of a character has its bytes beside its text: they and its neighbours' are whole. words: by token."""
    skip, writing = max(0, ask.start - event.start), ask.writing
    end = None if writing.end is None else max(skip, writing.end - event.start)
    ids = event.content.tolist()[skip:end]
    log_prob = [None] * len(ids) if event.log_prob is None else event.log_prob.tolist()[skip:end]
    order = [-1] * len(ids) if event.order is None else event.order.tolist()[skip:end]
    first = event.start + skip - ask.start

    def text(place: int, token: int) -> str:
        count = len(writing.ends)
        if not event.clean or (place >= count and not writing.done):
            alone = words[token].decode(errors="replace")
            return alone or str(writing.tokenizer.decode([token], skip_special_tokens=event.clean))
        last = count if writing.stopped else count - 1  # it takes what is left, when the text has ended
        begin = writing.ends[min(place, count) - 1] if min(place, count) else 0
        if place < count and not (writing.done and place == last):
            return writing.text[begin : writing.ends[place]]
        return writing.text[begin:] if place == last else ""

    def part(place: int, token: int) -> dict[str, list[int]]:
        cut = event.clean and writing.stopped and place >= len(writing.ends)
        return {} if cut or _whole(words[token]) else {"bytes": list(words[token])}

    return {
        "index": event.unit,
        "start": event.start + skip,
        "clean": event.clean,
        "level": round(float(event.level), 6),
        "forwards": event.forwards,
        "tokens": [
            {
                "id": None if token == OPEN else token,
                "text": "" if token == OPEN else text(place, token),
                "logprob": None if token == OPEN or at < 0 or one is None else max(float(one), -9999.0),
                "order": None if token == OPEN or at < 0 else at,
            }
            | ({} if token == OPEN else part(place, token))
            for place, (token, one, at) in enumerate(zip(ids, log_prob, order, strict=True), first)
        ],
    }


def _whole(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True


def _field(error: InterlaceError) -> str | None:
    """Which field a request was refused for, as far as the engine's words tell."""
    words = {"infill": "suffix", "schema": "response_format", "JSON object": "response_format", "pattern": "regex"}
    return next((field for word, field in words.items() if word in str(error)), None)
