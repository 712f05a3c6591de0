"""What the endpoints share: the models, the limits, who is being answered, and whether new ones are taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .answering import Answer, Piece
from .asking import Ask, wanted
from .bodies import Common, checked
from .compiling import Compiler
from .metrics import Metrics
from .served import Served
from .sse import EventStream, Json, Left, event, unless_gone
from .wire import Refused, parse
from .wording import Wording

if TYPE_CHECKING:
    from ..constraints import Constraint

__all__ = ["Desk", "Limits"]

B = TypeVar("B", bound=Common)
AHEAD = 64
"""Units of a row that may wait for a client who reads too slowly; then the row is paused."""


@dataclass(frozen=True)
class Limits:
    """What a server allows.

    keys: one of them must be shown; none: everybody may ask. origins: pages that may ask from a browser. body_bytes,
    body_seconds: of a request's body. request_seconds: of an answer. metrics_prefix: of names.
    """

    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body_bytes: int = 1 << 20
    body_seconds: float = 30.0
    request_seconds: float = 600.0
    metrics_prefix: str = "interlace"


@dataclass
class Desk:
    """The state of a server. draining: nothing new is taken. active: requests that are being answered. compiler: makes
    constraints; none: threads of this process do, and nothing ends them."""

    models: dict[str, Served]
    limits: Limits = field(default_factory=Limits)
    draining: bool = False
    active: int = 0
    compiler: Compiler | None = None

    def __post_init__(self) -> None:
        self.created = int(time.time())
        self.metrics = Metrics(list(self.models.values()), self.limits.metrics_prefix)

    @property
    def ready(self) -> bool:
        return not self.draining and all(served.service.alive for served in self.models.values())

    @property
    def stuck(self) -> bool:
        """Whether a model takes no requests and will not by itself."""
        return any(served.service.stuck for served in self.models.values())

    def served(self, name: str | None) -> Served:
        """The model of that name; the first one, where none is named."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refused(
                f"the model {name[:80]!r} is not served here; served: {', '.join(self.models)}",
                "model",
                "model_not_found",
                404,
            )
        return self.models[name]

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A request that a server waits for before it stops. ``Refused`` while it waits."""
        if self.draining:
            raise Refused("the server is shutting down; ask again", status=503, headers={"Retry-After": "5"})
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def body(self, request: Request, kind: type[B]) -> B:
        """The body, read and checked. ``Refused`` for what is not JSON, too large, too slow, or says what is wrong."""
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != "application/json":
            raise Refused("the body is not marked as JSON; send Content-Type: application/json", status=415)
        limit, found = self.limits.body_bytes, bytearray()
        large = Refused(f"the body is larger than {limit} bytes; shorten it", code="body_too_large", status=413)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > limit:
            raise large
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for part in request.stream():
                    found += part
                    if len(found) > limit:
                        raise large
        except TimeoutError:
            raise Refused(
                f"the body took longer than {self.limits.body_seconds:g} s; send it faster", status=408
            ) from None
        except ClientDisconnect:
            raise Left from None
        body: B = await asyncio.to_thread(lambda: checked(kind, parse(bytes(found))))
        return body

    async def held(self, served: Served, body: Common) -> Constraint | None:
        """What the new text must match, made. ``Refused`` for what cannot be."""
        asked = wanted(body)
        if asked is None:
            return None
        if self.compiler is None:
            return await asyncio.to_thread(asked.made)
        return await self.compiler.make(asked, served.model)

    async def answer(
        self, request: Request, served: Served, body: Common, asks: Sequence[Ask], say: Wording
    ) -> Response:
        """The whole answer, or a stream of it."""
        ahead = AHEAD if body.stream else None
        answer = Answer(served, asks, self.limits.request_seconds, self.metrics, ahead=ahead)
        note = request.scope.setdefault("interlace.log", {})
        note |= {"model": served.name, "prompt_tokens": say.prompt_tokens, "choices": len(asks)}

        def noted() -> None:
            note["tokens"] = sum(len(ask.writing.tokens) for ask in asks)

        if not body.stream:

            async def whole() -> dict[str, Any]:
                async with aclosing(answer.pieces()) as pieces:  # type: ignore[type-var]
                    async for _ in pieces:
                        pass
                return say.whole(asks)

            with self.answering():
                try:
                    await unless_gone(request, answer.begin())
                    return Json(await unless_gone(request, whole()))
                finally:
                    answer.end()
                    noted()
        held = self.answering()
        held.__enter__()
        try:
            await unless_gone(request, answer.begin())
        except BaseException:
            held.__exit__(None, None, None)
            answer.end()
            raise

        def end() -> None:
            held.__exit__(None, None, None)
            answer.end()
            noted()

        options = body.stream_options
        usage = options is not None and bool(options.include_usage)
        return EventStream(_events(answer, asks, say, usage), self.limits.request_seconds, end)


async def _events(answer: Answer, asks: Sequence[Ask], say: Wording, usage: bool) -> AsyncIterator[bytes]:
    tail = {"usage": None} if usage else {}
    for number, ask in enumerate(asks):
        for chunk in say.opening(number, ask):
            yield event(chunk | tail)
    async with aclosing(answer.pieces()) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            for chunk in _chunks(piece, asks, say):
                yield event(chunk | tail)
    if usage:
        yield event(say.usage(asks))


def _chunks(piece: Piece, asks: Sequence[Ask], say: Wording) -> Iterator[dict[str, Any]]:
    if piece.text or piece.unit is not None or (piece.last > piece.first and say.top is not None):
        yield say.delta(piece, asks[piece.choice])
    if piece.finish is not None:
        yield say.closing(piece)
