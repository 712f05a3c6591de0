"""Engines in replicas of Ray Serve: one of two is killed while clients are answered, and none of them notices."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from interlace import load
from interlace.checkpoints import save
from interlace.engine import Engine
from interlace.errors import CheckpointError
from interlace.model import Model
from interlace.serve.desk import Limits
from interlace.serve.served import Served

from ..waiting import until
from .conftest import Running, events
from .test_stream import line, text_of

pytest.importorskip("ray")
from interlace.serve.replicas import Replicas

WORDS = ["def area(", "return", "width *", "height", "Of a", "rectangle", "(", "def"]


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    import ray

    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(twin: Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(twin.checkpoint, tmp_path_factory.mktemp("model") / "twin"))


@pytest.fixture(scope="module")
def server(ray: None, folder: str) -> Iterator[Running]:
    replicas = Replicas(load(folder, device="meta"), partial(Engine.open, partial(load, folder), slots=4096), 2)
    found = Running([Served("twin", replicas.model, replicas)], Limits(), 5.0)
    yield found
    found.stop()
    replicas.close()


def body(seed: int) -> dict[str, Any]:
    return {
        "prompt": WORDS[seed % len(WORDS)], "max_tokens": 200, "seed": seed, "temperature": 1.0,
        "logit_bias": {"0": -100}, "stream": seed % 2 == 0,
    }  # fmt: skip


def answer(server: Running, seed: int) -> str:
    """The text of an answer, streamed or not."""
    found = server.post(body(seed), timeout=120)
    assert found.status_code == 200, found.text
    if seed % 2:
        return str(found.json()["choices"][0]["text"])
    return "".join(chunk["choices"][0]["text"] for chunk in events(found.text))


def pids(server: Running) -> list[int]:
    """Of the replicas that have answered."""
    replicas = server.served.service
    assert isinstance(replicas, Replicas)
    return [int(name.rpartition(":")[2]) for name in replicas._stats]


def test_a_replica_is_killed_under_load(server: Running) -> None:
    expected = [answer(server, seed) for seed in range(16)]
    assert len(pids(server)) == 2 and server.served.service.up == 2
    with ThreadPoolExecutor(16) as clients:
        asked = [clients.submit(answer, server, seed) for seed in range(16)]
        busy: list[int] = []
        while not busy:  # one that is known to be at work
            time.sleep(0.001)
            stats = dict(server.served.service._stats)  # type: ignore[union-attr]
            busy = [int(name.rpartition(":")[2]) for name, one in stats.items() if one.running > 1]
        os.kill(busy[0], signal.SIGKILL)
        found = [one.result() for one in asked]
    assert found == expected and server.served.service.again > 0
    assert httpx.get(server.url + "/ready").status_code == 200
    assert server.metric("moves_total") > 0


def test_clients_who_leave_are_cancelled(server: Running) -> None:
    with httpx.stream("POST", server.url + "/v1/completions", json=body(0), timeout=120) as told:
        next(told.iter_text())
    end = time.monotonic() + 20
    while server.served.service.pending:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert answer(server, 1)


def test_a_client_who_takes_nothing_pauses_the_row(server: Running) -> None:
    """In its replica, and in the next when that is killed; what it is given in the end is the same."""
    service = server.served.service
    asked = {"prompt": "def area(", "max_tokens": 120, "temperature": 0.0, "logit_bias": {"0": -100}}
    expected = server.post(asked, timeout=120).json()["choices"][0]["text"]
    until(lambda: service.stats().running == 0)
    before = service.stats().units
    with line(server) as client:
        client.say("open", **asked, credit=2)
        assert client.hear()["type"] == "opened"
        until(lambda: service.stats().paused == 1 and service.stats().running == 0)
        assert service.stats().units - before <= 4
        for number in range(2):
            assert client.hear()["number"] == number
        for name in pids(server):
            if service._stats[f"{os.uname().nodename}:{name}"].paused:  # type: ignore[union-attr]
                os.kill(name, signal.SIGKILL)
        client.say("ack", number=0)
        assert client.hear()["number"] == 2
        client.say("ack", number=2)
        assert client.take()["type"] == "ended"
        assert text_of(client.units) == expected
    with line(server) as client:
        client.say("open", **asked, credit=1)
        until(lambda: service.stats().paused == 1)
    until(lambda: service.pending == service.stats().paused == 0)


def test_what_is_wrong_is_refused(server: Running) -> None:
    assert server.post({"max_tokens": 100000}).status_code == 400


def test_a_replica_that_cannot_begin(ray: None, twin: Model) -> None:
    with pytest.raises(CheckpointError, match="does not exist; pass a folder"):
        Replicas(twin, partial(Engine.open, partial(load, "nowhere/at/all")), 1)
