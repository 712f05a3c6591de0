"""A server whose engine lives in a process of its own, which is killed while clients listen."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from interlace import load
from interlace.checkpoints import save
from interlace.engine import Engine, Workers
from interlace.model import Model
from interlace.serve.desk import Limits
from interlace.serve.served import Served

from .conftest import Running, events

BODY = {"prompt": "def area(", "max_tokens": 200, "seed": 1, "temperature": 1.0, "logit_bias": {"0": -100}}


@pytest.fixture(scope="module")
def server(twin: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = save(twin.checkpoint, tmp_path_factory.mktemp("model") / "twin")
    workers = Workers(load(folder, device="meta"), partial(Engine.open, partial(load, folder), slots=1024))
    found = Running([Served("twin", workers.model, workers)], Limits(), 5.0)
    yield found
    found.stop()
    workers.close()


def pid(server: Running) -> int:
    process = server.served.service._workers[0].process  # type: ignore[union-attr]
    assert process is not None and process.pid is not None
    return process.pid


def get(server: Running, path: str) -> tuple[int, Any]:
    found = httpx.get(server.url + path)
    return found.status_code, found.json()


def test_a_stream_outlives_the_process(server: Running) -> None:
    expected = server.post(BODY).json()["choices"][0]
    assert len(expected["text"]) > 50
    told, killed = "", False
    with httpx.stream("POST", server.url + "/v1/completions", json=BODY | {"stream": True}, timeout=60) as answer:
        for piece in answer.iter_text():
            told += piece
            if not killed:
                os.kill(pid(server), signal.SIGKILL)
                killed = True
    chunks = [chunk["choices"][0] for chunk in events(told)]
    assert "".join(chunk["text"] for chunk in chunks) == expected["text"]
    assert chunks[-1]["finish_reason"] == expected["finish_reason"]


def test_what_the_server_says_meanwhile(server: Running) -> None:
    assert get(server, "/ready") == (200, {"status": "ready"})
    before = server.metric("moves_total")
    assert before > 0
    os.kill(pid(server), signal.SIGKILL)
    end = time.monotonic() + 30
    while get(server, "/ready")[0] == 200:
        assert time.monotonic() < end
    assert get(server, "/ready") == (503, {"status": "starting"})
    assert get(server, "/health") == (200, {"status": "ok", "engines": {"twin": {"up": 0, "of": 1}}})
    assert server.metric("moves_total") >= before
    assert server.post({"max_tokens": 4}, timeout=60).status_code == 200  # it waits for the next
    assert get(server, "/ready") == (200, {"status": "ready"})
    assert get(server, "/health")[1] == {"status": "ok", "engines": {"twin": {"up": 1, "of": 1}}}
    assert server.metric("moves_total") > before


def test_what_cannot_be_generated_is_refused_by_field(server: Running) -> None:
    answer = server.post({"max_tokens": 100000})
    assert answer.status_code == 400 and json.loads(answer.text)["error"]["param"]
