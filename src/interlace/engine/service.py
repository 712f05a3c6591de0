"""An engine in a thread of its own, for asynchronous callers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ..errors import BusyError, EngineError, SettingError
from .driver import Driver, Found, ended
from .engine import Engine, Stats
from .preparing import Prepared

if TYPE_CHECKING:
    from ..generation import Event
    from .request import Request

__all__ = ["Owner", "Service", "Stream", "deliver", "drained"]


class Owner(Protocol):
    """What a stream belongs to."""

    def cancel(self, stream: Stream) -> None: ...

    def allow(self, stream: Stream, allowed: int) -> None: ...


class Stream(AsyncIterator["Event"]):
    """The events of one request, as they come; ends behind the last one. Raises what made the request fail.

    ``cancel`` may be called at any time, from any thread: the row leaves the engine before its next move, and the
    stream ends.

    ahead: how many events may wait to be read, the one that is being worked on among them. Then the request is paused
    in the engine, and goes on when half of them have been read; a move that gives several may exceed that by the rest
    of them, and a row whose keys may be stale by the rest of its block. None: without end.
    """

    def __init__(
        self,
        service: Owner,
        loop: asyncio.AbstractEventLoop,
        ahead: int | None = None,
        allowed: int | None = None,
    ) -> None:
        if ahead is not None and ahead < 1:
            raise SettingError(f"ahead is {ahead}; pass 1 or more")
        self._service, self._loop, self._ahead = service, loop, ahead
        self._events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self._read = 0
        self.allowed = ahead if allowed is None else allowed
        """How many events the request may give before it is paused."""
        self.failed: Exception | None = None
        """Why it failed, if it did; told by ``on_failure``, in the loop, before what came first has been read."""
        self.on_failure: Callable[[], None] = lambda: None

    async def __anext__(self) -> Event:
        if self._ahead is not None and self.allowed is not None:
            wanted = self._read + self._ahead
            if 2 * (wanted - self.allowed) >= self._ahead:
                self.allowed = wanted
                self._service.allow(self, wanted)
        found = await self._events.get()
        self._read += 1
        if found is None or isinstance(found, Exception):
            self._events.put_nowait(found)  # whoever asks again hears the same
        if found is None:
            raise StopAsyncIteration
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self) -> None:
        self._service.cancel(self)


def deliver(found: Sequence[tuple[Stream, Event | Exception | None]]) -> None:
    """Give every stream what is its own; None ends it. One call for all that are read in the same loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Stream, Event | Exception | None]]] = {}
    for one in found:
        loops.setdefault(one[0]._loop, []).append(one)

    def put(mine: list[tuple[Stream, Event | Exception | None]]) -> None:
        for stream, item in mine:
            stream._events.put_nowait(item)
            if isinstance(item, Exception):
                stream.failed = item
                stream.on_failure()
            if item is not None and not isinstance(item, Exception) and item.last:
                stream._events.put_nowait(None)

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
        self._driver = Driver(engine, self._told)
        self._live: set[Stream] = set()
        self._stats = engine.stats()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def prepare(self, request: Request) -> Prepared:
        """What can be seen of a request at once; raises ``SettingError`` for one that cannot be generated."""
        return self.engine.prepare(request)

    def submit(
        self,
        request: Request | Prepared,
        loop: asyncio.AbstractEventLoop | None = None,
        ahead: int | None = None,
        allowed: int | None = None,
    ) -> Stream:
        """Queue a request; ``loop``: where its stream is read, the running one by default; ``ahead``: see ``Stream``.
        allowed: how many events it may give at first, whoever reads them, where further calls of ``allow`` say more.

        Raises ``SettingError`` for one that cannot be generated, ``BusyError`` when too many are waiting.
        """
        if self._closed:
            raise EngineError("the engine is closed; start the server again")
        if len(self._live) >= self.capacity:
            raise BusyError(f"{len(self._live)} requests are under way or waiting already; come again later")
        prepared = self.prepare(request) if not isinstance(request, Prepared) else request
        stream = Stream(self, loop or asyncio.get_running_loop(), ahead, allowed)
        self._live.add(stream)
        self._driver.add(stream, prepared, stream.allowed)
        return stream

    def allow(self, stream: Stream, allowed: int) -> None:
        """Let a request give so many events, counted from its first."""
        if stream in self._live:
            self._driver.allow(stream, allowed)

    def cancel(self, stream: Stream) -> None:
        if stream in self._live:
            self._live.discard(stream)
            deliver([(stream, None)])
            self._driver.cancel(stream)

    def stats(self) -> Stats:
        """Where the engine stood after its last move, with what waits to be taken in."""
        return self._stats

    @property
    def slots(self) -> int:
        """Tokens that the memory of the engine holds."""
        return self.engine.pool.pages * self.engine.pool.size

    @property
    def capacity(self) -> int:
        """Requests that can be under way and waiting together."""
        return self.engine.rows + self.engine.most

    @property
    def alive(self) -> bool:
        """Whether requests are being worked on."""
        return self._thread.is_alive() and not self._closed

    @property
    def count(self) -> int:
        """How many engines there are; ``up``: how many of them take requests now."""
        return 1

    @property
    def up(self) -> int:
        return int(self.alive)

    @property
    def stuck(self) -> bool:
        """Whether nothing takes requests, and nothing will."""
        return not self._thread.is_alive()

    @property
    def pending(self) -> int:
        """Requests that have not ended."""
        return len(self._live)

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing is left to do, at most so long; whether that came."""
        return await drained(lambda: not self._live, seconds)

    def close(self) -> None:
        """Stop the thread; what is still under way fails."""
        self._closed = True
        self._driver.close()
        self._thread.join()
        self._fail(EngineError("the engine was closed before the request had ended; ask again"))

    def _run(self) -> None:
        while not self._closed:
            try:
                self._driver.run()
            except Exception as error:  # whatever it is, callers must hear of it
                logging.getLogger(__name__).exception("the engine failed")
                cause = f"the engine failed ({type(error).__name__}); ask again, and see the server's log"
                self._driver.forget()
                self._fail(EngineError(cause))

    def _told(self, found: Found, stats: Stats) -> None:
        """Give what was found to whom it belongs."""
        mine: list[tuple[Stream, Event | Exception | None]] = []
        for stream, one in found:
            assert isinstance(stream, Stream)
            if stream in self._live:  # else it was cancelled meanwhile
                mine.append((stream, one))
                if ended(one):
                    self._live.discard(stream)
        self._stats = stats
        deliver(mine)

    def _fail(self, error: Exception) -> None:
        deliver([(stream, error) for stream in list(self._live)])
        self._live.clear()


async def drained(empty: Callable[[], bool], seconds: float) -> bool:
    """Wait until it is so, at most so long; whether that came."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not empty() and loop.time() < end:
        await asyncio.sleep(0.02)
    return empty()
