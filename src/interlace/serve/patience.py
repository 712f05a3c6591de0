"""HTTP/1.1 that does not wait for ever: a client who does not get its request line and headers out is left."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .wire import Refused, dumps

__all__ = ["Patient", "Spoken"]


class Patient(H11Protocol):
    """Closes a connection on which no request, or half of one's head, has come for ``seconds``.

    Between requests uvicorn's own, shorter limit holds; the time of a body is the application's affair.
    """

    seconds = 30.0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late = self.loop.call_later(self.seconds, self._leave)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waits = self.conn.their_state is h11.IDLE  # a head has begun, and has not ended
        if self._late is not None and not waits:
            self._late.cancel()
            self._late = None
        elif self._late is None and waits:
            self._late = self.loop.call_later(self.seconds, self._leave)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so as everything else is."""
        told = Refused("the request is not HTTP/1.1 that can be read; correct it", code="invalid_http")
        content = dumps(told.body)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content))), ("Connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _leave(self) -> None:
        if self.transport.get_protocol() is self and not self.transport.is_closing():
            self.transport.close()


class Spoken(WebSocketsSansIOProtocol):
    """WebSockets; a message that is not UTF-8 ends its connection (1007), and is no failure of the server."""

    def send_receive_event_to_app(self) -> None:
        if not self.close_sent and self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.send_close(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()
