"""An engine in a thread of its own, for asynchronous callers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..errors import EngineError
from .engine import Engine, Failure, Stats

if TYPE_CHECKING:
    from ..generation import Event
    from .request import Request

__all__ = ["Service", "Stream"]


class Stream(AsyncIterator["Event"]):
    """The events of one request, as they come; ends behind the last one. Raises what made the request fail.

    ``cancel`` may be called at any time: the row leaves the engine before its next move, and the stream ends.
    """

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service, self._loop = service, loop
        self._events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.number = -1

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

    def _put(self, item: Event | Exception | None) -> None:
        with suppress(RuntimeError):  # whoever listened is gone, with the loop
            self._loop.call_soon_threadsafe(self._events.put_nowait, item)


def _failed(error: Exception) -> EngineError:
    return EngineError(f"the engine failed ({type(error).__name__}); ask again, and see the server's log")


class Service:
    """Runs an engine in a thread, and hands every request its own events.

    ``submit`` and ``cancel`` may be called from any coroutine, or from a thread on behalf of one (they wait for the end
    of a move, at most). Raises what ``Engine.add`` raises, at once.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._streams: dict[int, Stream] = {}
        self._lock, self._work = threading.RLock(), threading.Condition()
        self._asking = 0  # callers who wait for the end of a move
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests are being worked on."""
        return self._thread.is_alive() and not self._closed

    @contextmanager
    def _between(self) -> Iterator[None]:
        """Between two moves: the engine waits for those who ask, or else its loop would hardly ever let them in."""
        with self._work:
            self._asking += 1
        try:
            with self._lock:
                yield
        finally:
            with self._work:
                self._asking -= 1
                self._work.notify_all()

    def submit(self, request: Request, loop: asyncio.AbstractEventLoop | None = None) -> Stream:
        """``loop``: where the stream is read; default: the running one."""
        if self._closed:
            raise EngineError("the engine is closed; start the server again")
        stream = Stream(self, loop or asyncio.get_running_loop())
        with self._between():
            stream.number = self.engine.add(request)
            self._streams[stream.number] = stream
        return stream

    def cancel(self, stream: Stream) -> None:
        with self._between():
            if self._streams.pop(stream.number, None) is not None:
                self.engine.cancel(stream.number)
                stream._put(None)

    def stats(self) -> Stats:
        with self._between():
            return self.engine.stats()

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing is left to do, at most so long; whether that came."""
        end = asyncio.get_running_loop().time() + seconds
        while self._streams and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        return not self._streams

    def close(self) -> None:
        """Stop the thread; what is still under way fails."""
        self._closed = True
        with self._work:
            self._work.notify()
        self._thread.join()
        for stream in self._streams.values():
            stream._put(EngineError("the engine was closed before the request had ended; ask again"))
        self._streams.clear()

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                try:
                    outputs = self.engine.step()
                except Exception as error:  # a row that cannot be told from the others: they all hear of it
                    logging.getLogger(__name__).exception("the engine failed")
                    outputs = [Failure(number, _failed(error)) for number in self._streams]
                    for number in self._streams:
                        self.engine.cancel(number)
                for one in outputs:
                    number = one.request if isinstance(one, Failure) else one.row
                    stream = self._streams.get(number)
                    if stream is None:
                        continue
                    if isinstance(one, Failure):
                        stream._put(one.error)
                    else:
                        stream._put(one)
                        if one.last:
                            stream._put(None)
                    if isinstance(one, Failure) or one.last:
                        del self._streams[number]
            with self._work:
                self._work.wait_for(lambda: not self._asking)
                if not self.engine.busy and not self._closed:
                    self._work.wait(0.5)
