"""A server on a port: OpenAI's own client, clients who leave, and how a server stops."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlace.engine import Request
from interlace.errors import EngineError
from interlace.model import Model
from interlace.serve.desk import Limits
from interlace.serve.socket import packed

from ..waiting import until

openai = pytest.importorskip("openai")

HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
USER = {"role": "user", "content": "def area("}


Run = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as found:
        yield found


def test_the_official_client_completes(client: Any) -> None:
    whole = client.completions.create(model="twin", prompt="def area(", max_tokens=20, logprobs=0, seed=1)
    assert whole.usage.completion_tokens == len(whole.choices[0].logprobs.tokens)
    chunks = list(
        client.completions.create(
            model="twin", prompt="def area(", max_tokens=20, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage


def test_the_official_client_chats(client: Any) -> None:
    asked = {"model": "twin", "messages": [USER], "max_completion_tokens": 20}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.role == "assistant"
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**asked, stream=True)]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    stop = whole.choices[0].message.content[5:8]
    with client.chat.completions.stream(**asked, stop=stop) as told:
        said = told.get_final_completion().choices[0].message.content
        assert said == whole.choices[0].message.content.partition(stop)[0]
    more = client.chat.completions.create(**asked, extra_body={"threshold": 0.0, "reveal": "threshold"})
    assert more.usage.forwards < whole.usage.forwards


def test_the_official_client_parses_what_a_schema_holds(client: Any) -> None:
    from pydantic import BaseModel, Field

    class Point(BaseModel):
        x: int = Field(ge=0, le=9)
        y: int = Field(ge=0, le=9)

    told = client.chat.completions.parse(model="twin", messages=[USER], response_format=Point, max_tokens=40)
    assert isinstance(told.choices[0].message.parsed, Point)


def test_the_official_client_lists_models(client: Any) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == ["twin", "base"]
    about = client.models.retrieve("twin").interlace
    assert about["system"] == "sdar" and about["block_size"] == 4 and about["context_length"] == 256
    threshold = about["settings"]["threshold"]
    assert threshold["type"] == "number" and threshold["default"] == 0.9 and threshold["description"]
    assert "base" not in about["systems"] and {"sdar", "ar"} <= set(about["systems"])


def test_the_official_client_hears_what_is_wrong(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="twin", prompt="x", temperature=3)
    assert wrong.value.param == "temperature" and wrong.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="gpt", prompt="x")
    assert missing.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_is_cancelled(running: Run, twin: Model, stream: bool) -> None:
    with running(twin, pause=0.01) as server:
        body = json.dumps({"prompt": "def", "max_tokens": 250, "stream": stream}).encode()
        head = HEAD + f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(head.encode() + body)
            until(lambda: server.served.service.stats().running == 1)
            if stream:
                assert b"200 OK" in line.recv(1000)
        until(lambda: server.served.service.stats().running == 0)
        until(lambda: server.desk.active == 0)
        assert server.metric('request_success_total{finished_reason="abort"') == 1
        assert server.served.service.stats().tokens < 100
        assert server.post({"max_tokens": 2}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_row_that_a_stop_text_ends_leaves_the_engine(running: Run, twin: Model, stream: bool) -> None:
    with running(twin, pause=0.005) as server:
        early = server.post({"max_tokens": 8}).json()["choices"][0]["text"][4:6]
        before = server.served.service.stats().tokens
        server.post({"max_tokens": 200, "stop": early, "stream": stream})
        until(lambda: server.served.service.stats().running == 0)
        assert server.served.service.stats().tokens - before < 100


def test_a_slow_body(running: Run, twin: Model) -> None:
    limits = Limits(body_seconds=0.1)
    with running(twin, limits) as server, socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(HEAD.encode() + b"Content-Length: 90\r\n\r\n{")
        assert line.recv(1000).startswith(b"HTTP/1.1 408")
        assert server.desk.active == 0


@pytest.mark.parametrize("head", [b"", b"POST /v1/comp", HEAD.encode()])
def test_a_slow_head(running: Run, twin: Model, head: bytes) -> None:
    limits = Limits(body_seconds=0.1)
    with running(twin, limits) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        if head:
            line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            told = b""
            while b'"ok"' not in told:
                told += line.recv(1000)
        line.sendall(head)
        assert line.recv(1000) == b""


def test_an_answer_that_takes_too_long(running: Run, twin: Model) -> None:
    with running(twin, Limits(request_seconds=0.15), pause=0.02) as server:
        late = server.post({"max_tokens": 200})
        assert late.status_code == 504 and late.json()["error"]["code"] == "timeout"
        told = server.post({"max_tokens": 200, "stream": True}).text.split("\n\n")
        assert json.loads(told[-3].removeprefix("data: "))["error"]["code"] == "timeout"
        assert told[-2] == "data: [DONE]"
        until(lambda: server.served.service.stats().running == 0)


def test_too_many_requests(running: Run, twin: Model) -> None:
    with running(twin) as server:
        engine = server.served.service.engine
        engine.rows, engine.most = 0, 0
        full = server.post({})
        assert full.status_code == 429 and full.headers["retry-after"] == "1"
        assert full.json()["error"]["type"] == "rate_limit_error"
        assert server.post({"stream": True}).status_code == 429
        engine.rows, engine.most = 8, 8
        assert server.post({}).status_code == 200 and server.desk.active == 0


def test_an_engine_that_fails_is_one_error_and_goes_on(running: Run, twin: Model) -> None:
    with running(twin) as server:
        server.served.service.engine.broken = True
        failed = server.post({})
        assert failed.status_code == 500 and failed.json()["error"]["code"] == "engine_error"
        server.served.service.engine.broken = True
        with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            with pytest.raises(openai.APIError, match="the engine failed"):
                list(client.completions.create(model="twin", prompt="x", stream=True))
            assert client.completions.create(model="twin", prompt="x").choices[0].text is not None
        assert httpx.get(server.url + "/ready").status_code == 200


def test_a_server_that_is_told_to_stop_ends_its_answers_first(running: Run, twin: Model) -> None:
    with running(twin) as server, httpx.Client(timeout=20) as client:
        whole = server.post({"max_tokens": 40}).json()["choices"][0]["text"]
        engine = server.served.service.engine
        engine.open.clear()
        body = {"prompt": "def area(", "max_tokens": 40, "stream": True}
        with client.stream("POST", server.url + "/v1/completions", json=body) as told:
            server.server.handle_exit(15, None)
            assert httpx.get(server.url + "/ready").status_code == 503
            assert httpx.get(server.url + "/health").status_code == 200
            no = server.post({})
            assert no.status_code == 503 and no.headers["retry-after"]
            engine.open.set()
            lines = [line for line in told.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_a_server_does_not_wait_for_ever(running: Run, twin: Model) -> None:
    with running(twin, seconds=0.05, pause=0.02) as server, httpx.Client(timeout=20) as client:
        body = {"prompt": "def area(", "max_tokens": 200, "stream": True}
        with client.stream("POST", server.url + "/v1/completions", json=body) as told:
            server.server.handle_exit(15, None)
            lines = [line for line in told.iter_lines() if line]
        assert "closed" in json.loads(lines[-2].removeprefix("data: "))["error"]["message"]
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_many_clients_hear_what_they_would_hear_alone_whoever_leaves(server: Any) -> None:
    bodies = [{"prompt": f"def f{i}(", "max_tokens": 5 + i, "temperature": 1.0, "seed": i} for i in range(16)]
    alone = [server.post(body).json()["choices"] for body in bodies]
    heard: dict[int, Any] = {}

    def go(number: int) -> None:
        heard[number] = server.post(bodies[number]).json()["choices"]

    def leave(number: int) -> None:
        body = json.dumps({"prompt": f"def g{number}(", "max_tokens": 100, "stream": bool(number % 2)}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(HEAD.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if number % 2:
                line.recv(200)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(16)]
    threads += [threading.Thread(target=leave, args=(number,)) for number in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [heard[number] for number in range(16)] == alone
    until(lambda: server.desk.active == 0 and server.served.service.stats().running == 0)
    assert server.served.service.stats().slots_used == 0, "all memory is free again"


def test_a_closed_service_is_not_ready(running: Run, twin: Model) -> None:
    with running(twin) as server:
        server.served.service.close()
        assert httpx.get(server.url + "/ready").json() == {"status": "failed"}
        assert server.post({}).status_code == 503
        with pytest.raises(EngineError):
            server.served.service.submit(Request((1,), 1), None)


def test_the_examples_of_the_guide_run(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    guide = Path(__file__).parents[2] / "docs/howto/serve.md"
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(), re.S)
    assert len(blocks) == 3
    code = "\n".join(blocks).replace("http://127.0.0.1:8000", server.url)
    exec(compile(code, str(guide), "exec"), {"__name__": "guide"})
    assert "tokens per forward" in capsys.readouterr().out


def test_the_unpacking_of_the_reference_reads_a_unit() -> None:
    reference = Path(__file__).parents[2] / "docs/reference/stream.md"
    (code,) = re.findall(r"```python\n(.*?)```", reference.read_text(), re.S)
    found: dict[str, Any] = {}
    exec(compile(code, str(reference), "exec"), found)
    header, content = found["unpacked"](packed({"dtype": "int32", "shape": [2]}, struct.pack("<2i", 7, -1)))
    assert header["shape"] == [2] and content.tolist() == [7, -1]


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\xff\xfe" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x00b\r\n\r\n",
        b"GET /%00%ff%c0%ae/../..//etc/passwd?a=%ZZ#x HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD.encode() + b"Content-Length: -5\r\n\r\n",
        HEAD.encode() + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        HEAD.encode() + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{",
        HEAD.encode() + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        HEAD.encode() + b"Expect: 100-continue\r\nContent-Length: 99999999999999\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda said: repr(said[:40]),
)
def test_what_is_hardly_http_brings_nothing_down(server: Any, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(said)
        line.shutdown(socket.SHUT_WR)
        told = b""
        with suppress(ConnectionResetError):
            while part := line.recv(65536):
                told += part
    statuses = re.findall(rb"^HTTP/1.1 (\d+)", told, re.M)
    assert all(status < b"500" for status in statuses), told
    assert server.post({"max_tokens": 1}).status_code == 200 and server.desk.active == 0


def test_lines_that_say_half_a_request_keep_nobody_out(server: Any) -> None:
    lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(64)]
    try:
        for number, line in enumerate(lines):
            line.sendall((HEAD + "Content-Length: 5000\r\n\r\n{")[: 3 * number].encode())
        assert server.post({"max_tokens": 1}).status_code == 200
    finally:
        for line in lines:
            line.close()
    until(lambda: server.desk.active == 0)


def test_what_is_no_http_is_told_so_in_json(server: Any) -> None:
    for said in (b"HELLO\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(said)
            found = b""
            while part := client.recv(4096):
                found += part
        head, _, body = found.partition(b"\r\n\r\n")
        assert b" 400 " in head and json.loads(body)["error"]["code"] == "invalid_http"
