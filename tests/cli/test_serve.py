"""interlace serve: what is refused before anything is served, and a process that is told to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--port", "99999"), "--port"),
        (("--body-seconds", "0"), "--body-seconds"),
        (("--rows", "0"), "--rows"),
        (("--workers", "-1"), "--workers"),
        (("--replicas", "-1"), "--replicas"),
        (("--log-level", "loud"), "--log-level"),
        (("--chat-template", "x"), "--chat-template"),
        (("--metrics-prefix", "a b"), "--metrics-prefix"),
        (("--api-key", ""), "--api-key"),
        (("--threshold", "-1"), "threshold"),
        (("nowhere/at-all/here",), "nowhere/at-all/here"),
    ],
)
def test_what_is_wrong(fails: Callable[..., str], base: str, arguments: tuple[str, ...], word: str) -> None:
    models = () if not arguments[0].startswith("-") else (base,)
    assert word in fails("serve", *models, *arguments)


def test_a_port_that_is_taken(fails: Callable[..., str], base: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be listened on" in fails("serve", base, "--port", port)


def test_two_models_of_one_name(fails: Callable[..., str], base: str) -> None:
    assert "two models are called x" in fails("serve", f"x={base}", f"x={base}", "--port", 0)


def test_without_the_extra(fails: Callable[..., str], base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("interlace.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'interlace[serve]'" in fails("serve", base)


def test_without_ray(fails: Callable[..., str], base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'interlace[ray]'" in fails("serve", base, "--replicas", 2, "--port", 0)


@pytest.mark.slow
def test_a_process_that_is_told_to_stop_ends_well(base: str) -> None:
    command = [sys.executable, "-m", "interlace", "serve", f"small={base}", "--port", "0"]
    known = {**os.environ, "INTERLACE_API_KEY": "k"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=known) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        assert first["event"] == "serving" and first["models"] == ["small"]
        process.send_signal(signal.SIGTERM)
        rest = [json.loads(line) for line in process.stderr]
        assert process.wait(20) == 0 and [line["event"] for line in rest] == ["draining", "stopping"]
