"""/v1/stream: numbered units, acknowledgements, and what a client may say meanwhile."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from interlace.model import Model
from interlace.serve.desk import Limits

from ..waiting import until

websockets = pytest.importorskip("websockets")
client_of = pytest.importorskip("websockets.sync.client")


class Line:
    """A client's end of the connection."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.units = socket, []

    def say(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def hear(self) -> dict[str, Any]:
        """The next message; of a unit, its header with the ids of its tokens."""
        data = self.socket.recv(timeout=20)
        if isinstance(data, str):
            return dict(json.loads(data))
        (length,) = struct.unpack("<I", data[:4])
        header = json.loads(data[4 : 4 + length])
        payload = data[4 + length :]
        assert header["dtype"] == "int32" and len(payload) == 4 * header["shape"][0]
        self.units.append(header | {"ids": list(struct.unpack(f"<{header['shape'][0]}i", payload))})
        return self.units[-1]

    def closed(self) -> int:
        """With which code the server closes the connection, after the error that says why."""
        assert self.hear()["type"] == "error"
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            self.hear()
        return int(self.socket.close_code)

    def take(self) -> dict[str, Any]:
        """Acknowledge unit after unit, until something else comes."""
        while (heard := self.hear())["type"] == "unit":
            self.say("ack", number=heard["number"])
        return heard


@contextmanager
def line(server: Any, **how: Any) -> Iterator[Line]:
    with client_of.connect(server.url.replace("http", "ws") + "/v1/stream", **how) as socket:
        yield Line(socket)


def text_of(units: list[dict[str, Any]]) -> str:
    return "".join(unit["text"] for unit in units)


def test_a_row_is_a_stream_of_numbered_units(server: Any, twin: Model) -> None:
    with line(server, subprotocols=["interlace.v1"]) as client:
        assert client.socket.subprotocol == "interlace.v1"
        client.say("open", prompt="def area(", max_tokens=20, model="twin")
        opened = client.hear()
        assert opened["type"] == "opened" and opened["dtype"] == "int32" and opened["credit"] == 8
        ended = client.take()
        expected = twin.complete("def area(", 20, stop=())
        ids = [token for unit in client.units for token in unit["ids"]]
        assert ids == expected.content.tolist()[: len(ids)]
        assert [unit["number"] for unit in client.units] == list(range(len(client.units)))
        assert client.units[0]["start"] == len(twin.encode("def area("))
        assert ended["type"] == "ended" and ended["reason"] in ("length", "stop")
        assert ended["number"] == len(client.units)
        assert text_of(client.units) == twin.tokenizer.decode(twin.complete("def area(", 20).content.tolist())


def test_what_lies_behind_a_gap_is_counted(server: Any, twin: Model) -> None:
    with line(server) as client:
        client.say("open", prompt="def area(", suffix=" * height", max_tokens=4, model="twin")
        opened, ended = client.hear(), client.take()
        known = len(twin.encode("def area(")) + len(twin.encode(" * height"))
        assert opened["prompt_tokens"] == ended["usage"]["prompt_tokens"] == known
        assert ended["usage"]["total_tokens"] == known + 4


def test_no_more_than_the_credit_is_on_its_way(server: Any) -> None:
    with line(server) as client:
        client.say("open", prompt="def", max_tokens=40, credit=2)
        assert client.hear()["credit"] == 2
        assert [client.hear()["number"] for _ in range(2)] == [0, 1]
        while server.served.service.stats().running:  # the engine has made all that it may
            time.sleep(0.01)
        for _ in range(3):  # what is refused shows that no unit has come meanwhile
            client.say("open", prompt="x")
            assert client.hear()["error"]["code"] == "row_under_way"
        client.say("ack", number=0)
        assert client.hear()["number"] == 2
        client.say("open", prompt="x")
        assert client.hear()["type"] == "error"
        client.say("ack", number=2)  # of all that were sent
        assert [client.hear()["number"] for _ in range(2)] == [3, 4]
        client.say("ack", number=4)
        assert client.take()["type"] == "ended"


def test_who_takes_nothing_holds_nobody_up(server: Any) -> None:
    with line(server) as slow, line(server) as fast:
        slow.say("open", prompt="def", max_tokens=200, credit=1)
        assert slow.hear()["type"] == "opened" and slow.hear()["type"] == "unit"
        fast.say("open", prompt="def", max_tokens=40)
        assert fast.hear()["type"] == "opened" and fast.take()["type"] == "ended"


def test_a_message_that_is_no_text_is_no_failure(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), line(server) as client:
        client.socket.socket.sendall(b"\x81\x82\x00\x00\x00\x00\xff\xfe")  # a text frame, masked with zeros
        with pytest.raises(websockets.ConnectionClosed) as closed:
            client.socket.recv(timeout=20)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1007
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_drafts(server: Any) -> None:
    with line(server) as client:
        client.say("open", prompt="def", max_tokens=8, drafts=True)
        client.hear()
        client.take()
        drafts = [unit for unit in client.units if not unit["clean"]]
        assert drafts and all(unit["text"] == "" for unit in drafts) and any(-1 in unit["ids"] for unit in drafts)


def test_a_prompt_on_the_way_goes_behind_what_is_written(server: Any, twin: Model) -> None:
    with line(server) as client:
        client.say("open", prompt="def area(", max_tokens=200, credit=1)
        client.hear()
        client.hear()  # the first unit, and no more before it is acknowledged
        client.say("prompt", prompt="\nreturn", max_tokens=12)
        prompted = client.hear()
        assert prompted["type"] == "prompted"
        client.say("ack", number=prompted["number"] - 1)
        before = list(client.units)
        assert client.take()["type"] == "ended"
        after = client.units[len(before) :]
        assert after[0]["number"] == prompted["number"] and after[0]["start"] == prompted["start"]
        written = prompted["start"] - len(twin.encode("def area(")) - len(twin.encode("\nreturn"))
        assert written == sum(len(unit["ids"]) for unit in before)
        told = twin.tokenizer.decode(twin.complete("def area(", 200).content.tolist()[:written])
        assert text_of(before) + prompted["text"] == told
        start = twin.encode("def area(") + twin.complete("def area(", 200).content.tolist()[:written]
        expected = twin.complete([*start, *twin.encode("\nreturn")], 12)
        assert text_of(after) == twin.tokenizer.decode(expected.content.tolist())


def test_cancelled_and_opened_again(server: Any) -> None:
    with line(server) as client:
        client.say("open", prompt="def", max_tokens=200, credit=1)
        assert client.hear()["type"] == "opened" and client.hear()["type"] == "unit"
        client.say("cancel")
        ended = client.hear()
        assert ended["type"] == "ended" and ended["reason"] == "cancel"
        client.say("ack", number=0)
        client.say("open", prompt="def", max_tokens=4)
        assert client.hear()["number"] == 1
        assert client.take()["reason"] in ("length", "stop")


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"type": "open"}, "prompt"),
        ({"type": "open", "prompt": ["a", "b"]}, "prompt"),
        ({"type": "open", "prompt": [-1]}, "prompt"),
        ({"type": "open", "prompt": "x", "n": 2}, "n"),
        ({"type": "open", "prompt": "x", "credit": 0}, "credit"),
        ({"type": "open", "prompt": "x", "credit": 10**9}, "credit"),
        ({"type": "open", "prompt": "x", "model": "nope"}, "model"),
        ({"type": "open", "prompt": "x", "max_tokens": 10**9}, "max_tokens"),
        ({"type": "open", "prompt": "x", "echo": True}, "echo"),
        ({"type": "open", "prompt": "x", "treshold": 1}, "treshold"),
        ({"type": "prompt", "prompt": "x"}, "type"),
        ({"type": "prompt"}, "prompt"),
        ({"type": "cancel", "why": "x"}, "why"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_and_the_line_stays(server: Any, message: dict[str, Any], param: str) -> None:
    with line(server) as client:
        client.socket.send(json.dumps(message))
        heard = client.hear()
        assert heard["type"] == "error" and heard["error"]["param"] == param
        client.say("open", prompt="x", max_tokens=1)
        assert client.hear()["type"] == "opened"


@pytest.mark.parametrize(
    "text", ["", "x", "[]", '{"type": 5}', '{"type": "unit"}', "{" * 9999, '{"type": "ack", "number": 999}',
             '{"type": "ack"}', '{"type": "ack", "number": NaN}', '{"type": "ack", "number": -1}',
             '{"type": "\\ud800"}'],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_message_ends_the_line(server: Any, text: str) -> None:
    with line(server) as client:
        client.socket.send(text)
        assert client.closed() == 4400


def test_binary_messages_are_refused(server: Any) -> None:
    with line(server) as client:
        client.socket.send(b"\x00")
        assert client.closed() == 4400


def test_who_asks_for_nothing_is_left(running: Any, twin: Model) -> None:
    with running(twin, Limits(request_seconds=0.05)) as server, line(server) as client:
        assert client.closed() == 4408


def test_who_waits_for_the_server_is_not_left(
    running: Any, twin: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that takes longer than a client may be silent: a constraint that is compiled."""
    with running(twin, Limits(request_seconds=0.8)) as server:
        held = server.desk.held

        async def slowly(*given: Any) -> Any:
            await asyncio.sleep(2.0)
            return await held(*given)

        monkeypatch.setattr(server.desk, "held", slowly)
        with line(server) as client:
            client.say("open", prompt="def", max_tokens=4)
            assert client.hear()["type"] == "opened"


def test_keys_and_origins(running: Any, twin: Model) -> None:
    told = base64.urlsafe_b64encode("schlüssel".encode()).decode().rstrip("=")
    good: list[dict[str, Any]] = [
        {"additional_headers": {"Authorization": "Bearer plain"}},
        {"subprotocols": ["interlace.v1", f"key.{told}"]},
        {"subprotocols": [f"key.{told}", "interlace.v1"], "origin": "https://here.example"},
        {"subprotocols": ["interlace.v1", f"key.{told}"], "origin": "http://HOST"},
    ]
    bad: list[dict[str, Any]] = [
        {},
        {"additional_headers": {"Authorization": "Bearer x"}},
        {"subprotocols": ["key.x", "key.abc"]},
        {"subprotocols": [f"key.{told}"], "origin": "https://there.example"},
    ]
    with running(twin, Limits(keys=("schlüssel", "plain"), origins=("https://here.example",))) as server:
        for how in good:
            if how.get("origin") == "http://HOST":
                how["origin"] = server.url
            with line(server, **how) as client:
                client.say("open", prompt="x", max_tokens=1)
                assert client.hear()["type"] == "opened"
        for how in bad:
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused, line(server, **how):
                pass
            assert refused.value.response.status_code == 403


def test_who_leaves_is_cancelled(running: Any, twin: Model) -> None:
    with running(twin, pause=0.01) as server:
        with line(server) as client:
            client.say("open", prompt="def", max_tokens=200, credit=1)
            assert client.hear()["type"] == "opened" and client.hear()["type"] == "unit"
            assert server.desk.active == 1
        while server.desk.active or server.served.service.stats().running:
            time.sleep(0.01)
        assert server.metric('request_success_total{finished_reason="abort"') == 1
        assert server.served.service.stats().tokens < 100


def made(server: Any) -> int:
    """Units that the engine has made, once it makes no more of the one row that is there."""
    service = server.served.service
    until(lambda: service.stats().paused == 1)
    return int(service.stats().units)


@pytest.mark.parametrize("credit", [1, 3])
def test_the_engine_makes_no_more_than_twice_the_credit(running: Any, twin: Model, credit: int) -> None:
    """What is on its way and as much again, whatever the row's length; the row is the same as ever."""
    with running(twin) as server, line(server) as client:
        client.say("open", prompt="def area(", max_tokens=120, credit=credit, logit_bias={"0": -100})
        assert client.hear()["type"] == "opened"
        for _ in range(credit):
            assert client.hear()["type"] == "unit"
        until(lambda: made(server) > credit)
        assert made(server) <= 2 * credit
        assert server.metric("num_requests_paused") == 1 and server.metric("num_requests_running") == 0
        for number in range(12):
            client.say("ack", number=number)
            assert client.hear()["number"] == number + credit
            assert number + 1 + credit <= made(server) <= number + 1 + 2 * credit
        client.say("ack", number=11 + credit)
        assert client.take()["type"] == "ended"
        assert server.served.service.stats().paused == 0
        whole = server.post({"max_tokens": 120, "logit_bias": {"0": -100}}).json()["choices"][0]["text"]
        assert text_of(client.units) == whole and len(client.units) > 24


def test_a_paused_row_that_is_left_or_cancelled_frees_all(running: Any, twin: Model) -> None:
    with running(twin) as server:
        service = server.served.service
        with line(server) as client:
            for number in range(2):
                client.say("open", prompt="def", max_tokens=200, credit=1)
                assert client.hear()["type"] == "opened" and client.hear()["type"] == "unit"
                made(server)
                if number == 0:
                    client.say("cancel")
                    assert client.hear()["reason"] == "cancel"
                    until(lambda: service.stats().paused == 0)
                    client.say("ack", number=0)
        until(lambda: server.desk.active == service.stats().paused == service.stats().slots_used == 0)
        assert not service.engine._jobs and not service.engine._lanes


def test_a_row_that_is_paused_for_too_long_ends(running: Any, twin: Model) -> None:
    with running(twin, Limits(request_seconds=1.0)) as server, line(server) as client:
        client.say("open", prompt="def", max_tokens=200, credit=1)
        assert client.hear()["type"] == "opened" and client.hear()["type"] == "unit"
        error = client.hear()
        assert error["type"] == "error" and error["error"]["code"] == "timeout"
        until(lambda: server.desk.active == server.served.service.stats().paused == 0)
        client.say("open", prompt="def", max_tokens=4, credit=2)  # the connection stays
        assert client.hear()["type"] == "opened"


def test_a_server_that_stops_does_not_wait_for_paused_rows(running: Any, twin: Model) -> None:
    """They may go on while it waits; then they hear why they end, and with 1012 that the server does."""
    with running(twin, seconds=0.5) as server, line(server) as client:
        client.say("open", prompt="def", max_tokens=200, credit=1, logit_bias={"0": -100})
        assert client.hear()["type"] == "opened" and client.hear()["type"] == "unit"
        made(server)
        server.server.handle_exit(signal.SIGTERM, None)
        client.say("ack", number=0)
        assert client.hear()["number"] == 1
        error = client.hear()
        assert error["type"] == "error" and "the engine was closed before the request had ended" in str(error)
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            client.hear()
        assert client.socket.close_code == 1012
        server.thread.join(10)
        assert not server.thread.is_alive() and server.desk.active == 0


def test_a_row_whose_engine_fails_hears_of_it_while_it_is_paused(running: Any, twin: Model) -> None:
    with running(twin) as server, line(server) as client:
        client.say("open", prompt="def", max_tokens=200, credit=1)
        assert client.hear()["type"] == "opened" and client.hear()["type"] == "unit"
        made(server)
        server.served.service.engine.broken = True
        server.post({"max_tokens": 4})
        assert client.hear()["error"]["code"] == "engine_error"


def test_who_reads_no_events_pauses_the_row(running: Any, twin: Model) -> None:
    """Server-sent events wait in the socket, and then in a buffer of 64 units; all of them come when they are read."""
    body = {"prompt": "def area(", "max_tokens": 240, "logit_bias": {"0": -100}, "drafts": True, "stream": True}
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    with running(twin) as server:
        whole = server.post(body).text
        server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # those that are accepted have it too
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            made(server)
            told = b""
            while part := slow.recv(65536):
                told += part
    assert told.endswith(b"0\r\n\r\n") and b"[DONE]" in told and len(told) > len(whole)
