"""Answers over HTTP: server-sent events, and a client who leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .wire import Refused, dumps

__all__ = ["EventStream", "Json", "Left", "event", "unless_gone"]

T = TypeVar("T")
DONE = b"data: [DONE]\n\n"
log = logging.getLogger("interlace.serve")


class Left(Exception):
    """The client is gone; nobody hears the answer."""


class Json(Response):
    """JSON in ASCII."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return dumps(content)


def event(value: Any) -> bytes:
    """One event: a line of data and an empty line."""
    return b"data: " + dumps(value) + b"\n\n"


class EventStream(Response):
    """Events as they come, ``[DONE]`` at the end; an error on the way is an event, as OpenAI's server sends it.

    A client who leaves ends the iterator at once. seconds: a client who takes nothing for longer is left. end: called
    when nothing more is sent, whatever the reason.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], seconds: float, end: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._seconds, self._end = events, seconds, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
            else:
                scope["interlace.left"] = True
        finally:
            for task in (pump, gone):
                task.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
            self._end()

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._events) as events:  # type: ignore[type-var]
            try:
                async for data in events:
                    await self._send(send, data)
            except Refused as error:
                await self._send(send, event(error.body))
            except Exception:
                log.exception("failed")
                await self._send(send, event(Refused("the server failed; ask again", status=500).body))
        await self._send(send, DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, data: bytes) -> None:
        async with asyncio.timeout(self._seconds):
            await send({"type": "http.response.body", "body": data, "more_body": True})


async def disconnected(receive: Receive) -> None:
    """Until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when the client leaves (``Left``)."""
    task, gone = asyncio.create_task(work), asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Left
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
