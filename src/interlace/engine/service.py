"""An engine in a thread of its own, for asynchronous callers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import BusyError, EngineError, InterlaceError
from .engine import Engine, Failure, Prepared, Stats

if TYPE_CHECKING:
    from ..generation import Event
    from .request import Request

__all__ = ["Service", "Stream"]


class Stream(AsyncIterator["Event"]):
    """The events of one request, as they come; ends behind the last one. Raises what made the request fail.

    ``cancel`` may be called at any time, from any thread: the row leaves the engine before its next move, and the
    stream ends.
    """

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service, self._loop = service, loop
        self._events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.number = -1
        """Of the request in its engine, once it is there."""

    async def __anext__(self) -> Event:
        found = await self._events.get()
        if found is None or isinstance(found, Exception):
            self._events.put_nowait(found)  # whoever asks again hears the same
        if found is None:
            raise StopAsyncIteration
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self) -> None:
        self._service.cancel(self)

    def _put(self, *items: Event | Exception | None) -> None:
        _deliver([(self, item) for item in items])


def _deliver(found: list[tuple[Stream, Event | Exception | None]]) -> None:
    """Give every stream what is its own; one call for all that are read in the same loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Stream, Event | Exception | None]]] = {}
    for one in found:
        loops.setdefault(one[0]._loop, []).append(one)

    def put(mine: list[tuple[Stream, Event | Exception | None]]) -> None:
        for stream, item in mine:
            stream._events.put_nowait(item)

    for loop, mine in loops.items():
        with suppress(RuntimeError):  # whoever listened is gone, with the loop
            loop.call_soon_threadsafe(put, mine)


class Service:
    """Runs an engine in a thread, and hands every request its own events.

    ``submit`` and ``cancel`` may be called from any coroutine, or from a thread on behalf of one, and never wait for a
    forward: what is submitted is looked at in the caller's thread, and the engine takes it in before its next move. A
    constraint may take a while to be compiled: to keep an event loop free, submit it from a thread.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._inbox: deque[tuple[Stream, Prepared | None]] = deque()
        self._live: set[Stream] = set()
        self._streams: dict[int, Stream] = {}
        self._work = threading.Condition()
        self._stats = engine.stats()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def prepare(self, request: Request) -> Prepared:
        """What can be seen of a request at once; raises ``SettingError`` for one that cannot be generated."""
        return self.engine.prepare(request)

    def submit(self, request: Request | Prepared, loop: asyncio.AbstractEventLoop | None = None) -> Stream:
        """Queue a request; ``loop``: where its stream is read, the running one by default.

        Raises ``SettingError`` for one that cannot be generated, ``BusyError`` when too many are waiting.
        """
        if self._closed:
            raise EngineError("the engine is closed; start the server again")
        if len(self._live) >= self.engine.rows + self.engine.most:
            raise BusyError(f"{len(self._live)} requests are under way or waiting already; come again later")
        prepared = self.prepare(request) if not isinstance(request, Prepared) else request
        stream = Stream(self, loop or asyncio.get_running_loop())
        self._live.add(stream)
        self._tell(stream, prepared)
        return stream

    def cancel(self, stream: Stream) -> None:
        if stream in self._live:
            self._live.discard(stream)
            stream._put(None)
            self._tell(stream, None)

    def stats(self) -> Stats:
        """Where the engine stood after its last move, with what waits to be taken in."""
        return self._stats

    @property
    def alive(self) -> bool:
        """Whether requests are being worked on."""
        return self._thread.is_alive() and not self._closed

    @property
    def pending(self) -> int:
        """Requests that have not ended."""
        return len(self._live)

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing is left to do, at most so long; whether that came."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._live and loop.time() < end:
            await asyncio.sleep(0.02)
        return not self._live

    def close(self) -> None:
        """Stop the thread; what is still under way fails."""
        self._closed = True
        with self._work:
            self._work.notify()
        self._thread.join()
        self._fail(EngineError("the engine was closed before the request had ended; ask again"))

    def _tell(self, stream: Stream, prepared: Prepared | None) -> None:
        self._inbox.append((stream, prepared))
        with self._work:
            self._work.notify()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._take()
                outputs = self.engine.step()
            except Exception as error:  # whatever it is, callers must hear of it
                logging.getLogger(__name__).exception("the engine failed")
                cause = f"the engine failed ({type(error).__name__}); ask again, and see the server's log"
                self._fail(EngineError(cause))
                for number in list(self._streams):
                    self.engine.cancel(number)
                self._streams.clear()
                outputs = []
            _deliver([one for found in outputs for one in self._due(found)])
            self._stats = self.engine.stats()
            if not self.engine.busy:
                with self._work:
                    if not self._inbox and not self._closed:
                        self._work.wait()

    def _take(self) -> None:
        """Take in what was submitted and cancelled since the last move."""
        while self._inbox:
            stream, prepared = self._inbox.popleft()
            if prepared is None:
                self.engine.cancel(stream.number)
                self._streams.pop(stream.number, None)
            elif stream in self._live:  # else it was cancelled before it began
                try:
                    stream.number = self.engine.add(prepared)
                    self._streams[stream.number] = stream
                except InterlaceError as error:
                    self._live.discard(stream)
                    stream._put(error)

    def _due(self, one: Event | Failure) -> Iterator[tuple[Stream, Event | Exception | None]]:
        """What was found, to whom it belongs; and the end of the stream, if it is that."""
        number = one.request if isinstance(one, Failure) else one.row
        stream = self._streams.get(number)
        if stream is None:
            return
        if isinstance(one, Failure) or one.last:
            del self._streams[number]
            self._live.discard(stream)
        yield stream, one.error if isinstance(one, Failure) else one
        if not isinstance(one, Failure) and one.last:
            yield stream, None

    def _fail(self, error: Exception) -> None:
        for stream in list(self._live):
            stream._put(error)
        self._live.clear()
