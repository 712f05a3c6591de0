"""What every request passes first: it gets a number, shows its key, and leaves a line in the log."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .sse import Json, Left
from .wire import Refused

__all__ = ["Keys", "Lines", "Noted", "has_key"]

OPEN = {"/", "/health", "/ready"}
"""Paths that need no key: whoever watches the server has none, and the page asks its reader for it."""
PAGE = "/page/"
log = logging.getLogger("interlace.serve")


class Lines(logging.Formatter):
    """A log record as one line of JSON. Whatever a client sends stands inside of strings, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage()[:2000],
        }
        found |= getattr(record, "fields", {})
        if record.exc_info:
            found["trace"] = self.formatException(record.exc_info)[-8000:]
        return json.dumps(found, default=str)


class Noted:
    """Gives every request an id (``X-Request-Id``, the client's if it is a plain word) and writes a line about it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        number = given if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", given) else uuid.uuid4().hex
        scope["interlace.id"] = number
        noted: dict[str, Any] = scope.setdefault("interlace.log", {})
        began, status = time.perf_counter(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"].startswith("websocket"):
                status = status or {"websocket.accept": 101, "websocket.close": 403}.get(message["type"], 0)
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = number
            await send(message)

        try:
            await self._app(scope, receive, told)
        except (Left, asyncio.CancelledError) as left:
            scope["interlace.left"] = True
            if not isinstance(left, Left):
                raise
        except Refused as error:
            if not status:
                await Json(error.body, error.status, error.headers)(scope, receive, told)
        except Exception:
            log.exception("failed", extra={"fields": {"id": number}})
            if not status and scope["type"] == "http":
                failed = Refused("the server failed; its log has more under this X-Request-Id", status=500)
                await Json(failed.body, 500)(scope, receive, told)
        finally:
            fields = {
                "id": number,
                "method": scope.get("method", "GET"),
                "path": scope["path"][:200],
                "status": 499 if scope.get("interlace.left") else status,
                "seconds": round(time.perf_counter() - began, 6),
            }
            log.info("request", extra={"fields": fields | noted})


class Keys:
    """Lets those through who show one of the keys, ``Authorization: Bearer KEY``."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path not in OPEN and not path.startswith(PAGE):
            word, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            if word.lower() != "bearer" or not has_key(key.strip(), self._keys):
                error = Refused(
                    "the key is missing or wrong; send Authorization: Bearer KEY",
                    code="invalid_api_key",
                    status=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await Json(error.body, 401, error.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def has_key(given: str, keys: tuple[str, ...]) -> bool:
    """Whether it is one of the keys (in a header, whose bytes are read as Latin-1); its time says nothing of them."""
    found = [hmac.compare_digest(given.encode("latin-1", "replace"), key.encode()) for key in keys]
    return any(found) or not keys
