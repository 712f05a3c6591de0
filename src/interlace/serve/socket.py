"""/v1/stream: units of a sequence over a WebSocket, as fast as the client takes them (docs/reference/stream.md)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import struct
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..worlds.tokenizer import decode
from .answering import Answer, Piece
from .asking import Ask, Prompt, asked
from .bodies import CompletionBody, checked
from .completions import prompt_of
from .desk import Desk
from .guard import has_key
from .served import Served
from .wire import Refused, parse
from .wording import used

if TYPE_CHECKING:
    from ..constraints import Constraint

__all__ = ["PROTOCOL", "Session", "packed"]

PROTOCOL = "interlace.v1"
BAD, LATE = 4400, 4408
CREDIT = 64
"""Units that may be on their way at most."""
log = logging.getLogger("interlace.serve")


class Opening(CompletionBody):
    """``open``: the fields of a completion, of one row, and how many units may be on their way."""

    prompt: str | list[int] = Field(description="a text, or token ids")
    credit: int | None = Field(None, ge=1, le=CREDIT, description="units that may be on their way")


class Prompting(BaseModel):
    """``prompt``: what follows what has been written so far, and how many tokens are new behind it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    prompt: str | list[int]
    max_tokens: int | None = Field(None, ge=0)


class Acknowledgement(BaseModel):
    """``ack``: the unit of this number has come, and all before it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    number: int = Field(ge=0)


def packed(header: dict[str, Any], payload: bytes) -> bytes:
    """A unit as a binary message: the length of the header (uint32, little endian), the header in JSON, the payload.

    >>> packed({"n": 1}, b"ab")
    b'\\x07\\x00\\x00\\x00{"n":1}ab'
    """
    told = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return struct.pack("<I", len(told)) + told + payload


class Session:
    """One connection: rows one after the other, each a stream of numbered units.

    At most ``credit`` units are on their way; then the client must say what has come (``ack``).
    """

    def __init__(self, desk: Desk, socket: WebSocket) -> None:
        self.desk, self.socket = desk, socket
        self._commands: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(8)
        self._sending, self._heard = asyncio.Lock(), asyncio.Event()  # heard: something that a unit may wait for
        self._sent, self._taken, self._credit = 0, 0, 1  # units
        self._known = 0  # of the row: tokens that were given
        self._kept, self._told = 0, ""  # of the row: tokens that were sent in order, and their text
        self._obeys = False  # a command, which may take long: a constraint is compiled
        self._row: asyncio.Task[None] | None = None
        self._ask: Ask | None = None
        self._served: Served | None = None
        self._body: Opening | None = None
        self._held: Constraint | None = None

    async def run(self) -> None:
        """Until the client or the server has had enough."""
        if not self._allowed():
            await self.socket.close(1008)
            return
        await self.socket.accept(PROTOCOL if PROTOCOL in self._protocols() else None)
        listener = asyncio.create_task(self._listen())
        obeyer = asyncio.create_task(self._obey())
        code, reason = 1000, ""
        try:
            await asyncio.wait({listener, obeyer}, return_when=asyncio.FIRST_COMPLETED)
            for task in (listener, obeyer):
                if task.done():
                    task.result()
        except WebSocketDisconnect:
            code = 0
        except Refused as error:
            code, reason = LATE if error.status == 408 else BAD, error.message
            with suppress(Exception):
                await self._tell("error", **error.body)
        except Exception:
            log.exception("failed")
            code, reason = 1011, "the server failed"
        finally:
            tasks = [task for task in (listener, obeyer, self._row) if task is not None]
            for left in tasks:
                left.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if code and self.socket.application_state != WebSocketState.DISCONNECTED:
            with suppress(Exception):
                await self.socket.close(code, reason.encode()[:120].decode("utf-8", "ignore"))

    def _protocols(self) -> list[str]:
        return [one.strip() for one in self.socket.headers.get("sec-websocket-protocol", "").split(",")]

    def _allowed(self) -> bool:
        """Whether a key is shown (in a header, or by a browser as a protocol), and the page is one that may ask."""
        limits, headers = self.desk.limits, self.socket.headers
        word, _, key = headers.get("authorization", "").partition(" ")
        keys = [key.strip()] if word.lower() == "bearer" else []
        for one in self._protocols():
            if one.startswith("key."):
                with suppress(binascii.Error, ValueError):
                    text = one.removeprefix("key.")
                    keys.append(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("latin-1"))
        origin = headers.get("origin")
        here = origin is None or origin.partition("://")[2] == headers.get("host") or origin in limits.origins
        return (here or "*" in limits.origins) and (not limits.keys or any(has_key(one, limits.keys) for one in keys))

    async def _listen(self) -> None:
        """Take messages; acknowledgements at once, the rest in order."""
        while True:
            seconds = self.desk.limits.request_seconds if self._idle else None
            try:
                async with asyncio.timeout(seconds):
                    message = await self.socket.receive()
            except TimeoutError:
                if not self._idle:
                    continue
                raise Refused("nothing was asked for too long", status=408) from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            if message.get("text") is None:
                raise Refused("a binary message has no meaning here; send JSON as text", code="invalid_message")
            said = parse(message["text"].encode("utf-8", "surrogatepass"))
            kind = said.pop("type", None)
            if kind == "ack":
                await self._acknowledge(checked(Acknowledgement, said).number)
            elif kind in ("open", "prompt", "cancel"):
                await self._commands.put((kind, said))
            else:
                raise Refused("type is not open, prompt, ack or cancel; pass one of them", "type", "invalid_message")

    async def _acknowledge(self, number: int) -> None:
        if number >= self._sent:
            raise Refused(f"unit {number} was not sent; {self._sent} were", "number", "invalid_message")
        self._taken = max(self._taken, number + 1)
        self._heard.set()

    @property
    def _idle(self) -> bool:
        """Whether it is the client's turn: no row is under way, and no command."""
        return (self._row is None or self._row.done()) and not self._obeys and self._commands.empty()

    async def _obey(self) -> None:
        """What is wrong with a command is told, and the connection stays."""
        while True:
            kind, said = await self._commands.get()
            self._obeys = True
            try:
                await getattr(self, f"_{kind}")(said)
            except Refused as error:
                await self._tell("error", **error.body)
            self._obeys = False

    async def _open(self, said: dict[str, Any]) -> None:
        if self._row is not None and not self._row.done():
            raise Refused("a row is under way; send cancel or prompt, or wait for its end", "type", "row_under_way")
        body = await asyncio.to_thread(checked, Opening, said)
        for name in ("n", "best_of"):
            if getattr(body, name) not in (None, 1):
                raise Refused(f"{name} is {getattr(body, name)}; a stream has one row", name)
        for name in ("logprobs", "echo", "stream", "stream_options"):
            if getattr(body, name):
                raise Refused(f"{name} has no meaning in a stream of units; leave it out", name)
        served = self.desk.served(body.model)
        held = await self.desk.held(served, body)
        prompt, suffix, ask = await asyncio.to_thread(_first, served, body, held)
        self._held = held
        self._served, self._body, self._credit = served, body, body.credit or 8
        self._known = len(prompt.ids) + (0 if suffix is None else len(suffix.ids))
        await self._tell(
            "opened", id=self.socket.scope["interlace.id"], model=served.name, media="text", dtype="int32",
            credit=self._credit, number=self._sent, prompt_tokens=self._known,
        )  # fmt: skip
        self._begin(ask)

    async def _prompt(self, said: dict[str, Any]) -> None:
        more = checked(Prompting, said)
        if self._ask is None or self._served is None or self._body is None:
            raise Refused("no row has been opened; send open", "type", "no_row")
        if self._body.suffix:
            raise Refused("a gap takes no further prompt; open another row", "type")
        served, body, before = self._served, self._body, self._ask
        # what is wrong with it stops nothing
        added = await asyncio.to_thread(prompt_of, served, more.prompt, "prompt", False)
        await self._halt()
        kept = before.writing.tokens[: self._kept]
        untold = decode(served.model.tokenizer, kept, skip_special=True)[len(self._told) :]
        left = (body.max_tokens if body.max_tokens is not None else 16) - len(kept)
        known = [*before.prompt.ids, *kept, *added.ids]
        length = max(0, left) if more.max_tokens is None else more.max_tokens
        body = body.model_copy(update={"max_tokens": length})
        asks = await asyncio.to_thread(asked, served, body, [Prompt(known, "")], length, "prompt", held=self._held)
        self._body, self._known = body, len(known)
        await self._tell("prompted", number=self._sent, start=len(known), prompt_tokens=len(known), text=untold)
        self._begin(asks[0])

    async def _cancel(self, said: dict[str, Any]) -> None:
        if said:
            raise Refused("cancel has no fields", next(iter(said)), "unknown_parameter")
        if await self._halt() and self._ask is not None:
            await self._ended("cancel", self._ask)

    async def _halt(self) -> bool:
        """Stop the row, if one is under way; whether one was."""
        row = self._row
        if row is None or row.done():
            return False
        row.cancel()
        await asyncio.gather(row, return_exceptions=True)
        return row.cancelled()

    def _begin(self, ask: Ask) -> None:
        self._ask, self._kept, self._told = ask, 0, ""
        self._row = asyncio.create_task(self._write(ask))

    async def _write(self, ask: Ask) -> None:
        """A row, from its first unit to its end."""
        assert self._served is not None
        answer = Answer(
            self._served, [ask], self.desk.limits.request_seconds, self.desk.metrics, units=True, ahead=self._credit,
            on_failure=self._heard.set,
        )  # fmt: skip
        try:
            with self.desk.answering():
                await answer.begin()
                reason = "length"
                async with aclosing(answer.pieces()) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        written = len(ask.writing.tokens)
                        await self._unit(piece, answer)
                        self._kept, self._told = written, self._told + piece.text
                        reason = piece.finish or reason
                await self._ended(reason, ask)
        except Refused as error:
            await self._tell("error", **error.body)
        except TimeoutError:
            late = Refused("the row has not been taken in the server's time", code="timeout", status=504)
            await self._tell("error", **late.body)
        except WebSocketDisconnect:
            raise
        except Exception:
            log.exception("failed")
            await self._tell("error", **Refused("the server failed; ask again", status=500).body)
        finally:
            answer.end()

    async def _unit(self, piece: Piece, answer: Answer) -> None:
        """Send a unit, as soon as the client has taken enough of those before it. Raises what ends the row first."""
        unit = piece.unit
        if unit is None:
            return
        async with asyncio.timeout_at(answer.until):
            while self._sent - self._taken >= self._credit:
                answer.check()
                self._heard.clear()
                await self._heard.wait()
        ids = [-1 if token["id"] is None else token["id"] for token in unit["tokens"]]
        about = {name: unit[name] for name in ("index", "start", "clean", "level", "forwards")}
        header = {"type": "unit", "number": self._sent, **about, "media": "text", "dtype": "int32", "shape": [len(ids)]}
        self._sent += 1
        async with self._sending:
            await self.socket.send_bytes(packed(header | {"text": piece.text}, struct.pack(f"<{len(ids)}i", *ids)))

    async def _ended(self, reason: str, ask: Ask) -> None:
        await self._tell("ended", reason=reason, number=self._sent, usage=used(self._known, [ask]))

    async def _tell(self, kind: str, **said: Any) -> None:
        async with self._sending:
            await self.socket.send_text(json.dumps({"type": kind, **said}, separators=(",", ":"), allow_nan=False))


def _first(served: Served, body: Opening, held: Constraint | None) -> tuple[Prompt, Prompt | None, Ask]:
    prompt = prompt_of(served, body.prompt)
    suffix = prompt_of(served, body.suffix, "suffix", False) if body.suffix else None
    length = 16 if body.max_tokens is None else body.max_tokens
    return prompt, suffix, asked(served, body, [prompt], length, "prompt", None, suffix, held)[0]
