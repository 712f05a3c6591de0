"""Constraints are made beside the server: nobody else waits for one, and none outlives who asked for it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from interlace.constraints import Constraint, json_schema
from interlace.errors import SettingError
from interlace.model import Model
from interlace.serve import asking, compiling
from interlace.serve.compiling import Compiler

from ..waiting import until

SCHEMA = {"properties": {"a": {"type": "boolean"}}, "required": ["a"]}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"max_tokens": 40, "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


def strange(schema: dict[str, Any]) -> Constraint:
    """As ``json_schema``, but that a title may say what else happens."""
    title = schema.get("title", "")
    if title == "slow":
        time.sleep(60)
    if title == "dies":
        os._exit(3)
    if title == "wrong":
        raise SettingError(f"the schema is wrong in process {os.getpid()}")
    return json_schema(schema)


@pytest.fixture
def guarded(twin: Model, running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setattr(asking, "json_schema", strange)
    made: list[Compiler] = []

    def run(seconds: float) -> Any:
        made.append(Compiler(seconds))
        return running(twin, compiler=made[-1])

    yield run
    for one in made:
        one.close()


def test_what_takes_too_long_is_refused_and_nobody_else_waits(guarded: Callable[..., Any]) -> None:
    with guarded(60.0) as server:
        assert server.post(form(SCHEMA)).status_code == 200
        server.desk.compiler.seconds = 2.0
        found: list[Any] = []
        slow = threading.Thread(target=lambda: found.append(server.post(form(SCHEMA | {"title": "slow"}))))
        slow.start()
        until(server.desk.compiler._turn.locked)
        assert server.post({"max_tokens": 4}).status_code == 200 and not found  # answered meanwhile
        slow.join(20)
        error = found[0].json()["error"]
        assert found[0].status_code == 400 and error["param"] == "response_format" and "2 s" in error["message"]
        before = server.desk.compiler._child
        again = server.post(form(SCHEMA | {"title": "slow"})).json()["error"]
        assert again == error and server.desk.compiler._child is before  # the refusal is kept
        server.desk.compiler.seconds = 60.0
        assert json.loads(server.post(form(SCHEMA)).json()["choices"][0]["text"])["a"] in (True, False)


def test_what_ends_its_process_ends_nothing_else(guarded: Callable[..., Any]) -> None:
    with guarded(60.0) as server:
        error = server.post(form(SCHEMA | {"title": "dies"})).json()["error"]
        assert error["param"] == "response_format" and "too large" in error["message"]
        said = [server.post(form(SCHEMA | {"title": "wrong"})).json()["error"]["message"] for _ in range(2)]
        assert said[0] == said[1] and str(os.getpid()) not in said[0]
        assert server.post(form(SCHEMA | {"title": "new"})).status_code == 200


def test_who_leaves_ends_the_work(guarded: Callable[..., Any]) -> None:
    with guarded(60.0) as server:
        assert server.post(form(SCHEMA)).status_code == 200
        process = server.desk.compiler._child.result()._process
        body = json.dumps({"prompt": "x"} | form(SCHEMA | {"title": "slow"})).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(server.desk.compiler._turn.locked)
        until(lambda: not process.is_alive())
        assert server.post(form(SCHEMA | {"title": "next"})).status_code == 200


def test_a_server_that_stops_waits_for_no_constraint(guarded: Callable[..., Any]) -> None:
    with guarded(60.0) as server:
        assert server.post(form(SCHEMA)).status_code == 200
        process = server.desk.compiler._child.result()._process
        found: list[Any] = []
        body = form(SCHEMA | {"title": "slow"})
        slow = threading.Thread(target=lambda: found.append(server.post(body).status_code))
        slow.start()
        until(server.desk.compiler._turn.locked)
        server.server.handle_exit(15, None)
        slow.join(20)
        until(lambda: not process.is_alive())
        server.thread.join(20)
        assert found == [503] and not server.thread.is_alive()


def test_a_process_that_does_not_begin_is_waited_for_in_vain_once(
    guarded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, let, killed = compiling._Child.__init__, threading.Event(), threading.Event()

    def stuck(child: Any) -> None:
        let.wait(30)
        begin(child)
        child.kill = lambda: (child._process.kill(), killed.set())

    with guarded(60.0) as server, monkeypatch.context() as patch:
        patch.setattr(compiling._Child, "__init__", stuck)
        patch.setattr(compiling, "BEGIN", 0.2)
        refused = server.post(form(SCHEMA))
        assert refused.status_code == 503 and "ask again" in refused.json()["error"]["message"]
        patch.undo()
        assert server.post(form(SCHEMA)).status_code == 200
        let.set()
        until(killed.is_set)  # it began after all, and nobody wants it


def test_the_automaton_of_the_process_is_the_one_that_is_used(twin: Model, guarded: Callable[..., Any]) -> None:
    with guarded(60.0) as server:
        schema = SCHEMA | {"title": "kept", "required": []}
        held = json_schema(schema)
        wanted = asking.Wanted(partial(json_schema, schema), "response_format")
        assert server.post(form(schema)).status_code == 200
        assert held.known(twin.words) and wanted.made() == held
