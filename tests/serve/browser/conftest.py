"""A browser that opens the page: Chromium, driven through playwright, in front of servers.

``real`` serves the bundled models, ``random`` random ones, ``script`` says what it is told to. Skipped where Chromium
or the driver is absent. Screenshots are kept in build/screenshots, or in the folder that INTERLACE_SCREENSHOTS names.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from interlace.serve import page

ROOT = Path(__file__).parents[3]
SHOTS = Path(os.environ.get("INTERLACE_SCREENSHOTS") or ROOT / "build" / "screenshots")


class Running:
    """An application behind uvicorn, in a thread."""

    def __init__(self, app: FastAPI) -> None:
        import uvicorn

        self.app = app
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()

    def text(self, **body: Any) -> str:
        """What it answers to a completion without a stream."""
        return str(self.completion(**body)["text"])

    def completion(self, **body: Any) -> dict[str, Any]:
        import httpx

        choices: list[dict[str, Any]] = httpx.post(self.url + "v1/completions", json=body, timeout=60).json()["choices"]
        return choices[0]

    def says(self, **body: Any) -> str:
        """What it answers to a conversation."""
        import httpx

        answer = httpx.post(self.url + "v1/chat/completions", json=body, timeout=60).json()
        return str(answer["choices"][0]["message"]["content"])

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


def unit(index: int, start: int, forwards: int, tokens: list[tuple[Any, ...]]) -> dict[str, Any]:
    """tokens: texts with the step that fixed them, and their bytes; None for one that is masked."""
    rows = [
        {"id": None, "text": "", "logprob": None, "order": None} if one is None
        else {"id": number, "text": one[0], "logprob": -0.25, "order": one[1]}
        | ({"bytes": list(one[2])} if len(one) > 2 else {})
        for number, one in enumerate(tokens)
    ]  # fmt: skip
    masked = sum(one is None for one in tokens)
    return {
        "index": index, "start": start, "clean": not masked, "level": masked / len(tokens), "forwards": forwards,
        "tokens": rows,
    }  # fmt: skip


A, C = ("a", 0), ("", 1, b"\xc3")
APART: dict[str, list[tuple[str, int, list[tuple[Any, ...] | None]]]] = {
    # units become clean out of order, and hold parts of characters
    "apart": [
        ("", 1, [("\ufffd\ufffd", 0, b"\xa9\xe2"), ("\ufffd", 0, b"\x82")]),
        ("", 2, [("\ufffd", 0, b"\xac"), None]),
        ("", 0, [A, None]),
        ("", 2, [("\ufffd", 0, b"\xac"), ("!", 1)]),
        ("aé€!", 0, [A, C]),
    ],
    # what no character comes of, and a stop before a unit that came first
    "stopped": [("", 1, [("x", 0), ("y", 0)]), ("\ufffdb", 0, [C, ("\ufffdb", 1)])],
    # breaks off
    "half": [("", 2, [("y", 0), ("z", 0)]), ("ab", 0, [A, ("b", 0)])],
}


def scripted() -> FastAPI:
    """A server that says what it is told to: the last message, or the prompt, names what goes wrong."""
    app = FastAPI()
    app.include_router(page.router())
    app.state.asked = []
    card = {
        "system": "sdar", "title": "SDAR", "systems": ["sdar"], "block_size": 2, "context_length": 64,
        "chat_template": "model", "infills": True,
        "settings": {
            "threshold": {"type": "number", "minimum": 0, "default": 0.9, "description": "<b>how sure</b>"},
            "reveal": {"type": "string", "enum": ["dynamic", "static"], "default": "dynamic", "description": "which"},
            "steps": {"type": "integer", "minimum": 1, "default": None, "description": "how many"},
        },
    }  # fmt: skip

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "small", "object": "model", "interlace": card}]}

    async def events(word: str, chat: bool) -> AsyncIterator[str]:
        def chunk(text: str, one: dict[str, Any] | None, finish: str | None = None) -> str:
            said = {"delta": {"content": text}} if chat else {"text": text}
            choice = {"index": 0, **said, "finish_reason": finish, **({"unit": one} if one else {})}
            return f"data: {json.dumps({'choices': [choice]})}\r\n\r\n"

        if word in APART:
            for forward, (text, index, tokens) in enumerate(APART[word], 1):
                yield chunk(text, unit(index, 2 * index, forward, tokens))
            if word != "half":
                yield f'data: {{"choices": [], "usage": {{"completion_tokens": {2 if word == "stopped" else 6}}}}}\n\n'
                yield "data: [DONE]\n\n"
            return
        yield ": a comment\n\n"
        yield chunk("", unit(0, 0, 1, [("<b>one</b>", 0), None]))
        if word == "break":
            return
        if word == "fail":
            error = {"message": "the model gave no number; ask again", "type": "server_error", "code": "engine_error"}
            yield f"data: {json.dumps({'error': error})}\n\ndata: [DONE]\n\n"
            return
        yield chunk("<b>one</b> two", unit(0, 0, 2, [("<b>one</b>", 0), (" two", 1)]))
        if word == "wait":
            await asyncio.sleep(60)
        yield chunk(" é!", unit(1, 2, 3, [(" ", 0), ("é", 0), ("!", 0), ("<end>", 0)]), "stop")
        yield 'data: {"choices": [], "usage": {"completion_tokens": 5}}\n\n'
        yield "data: [DONE]\n\n"

    @app.post("/v1/completions")
    async def completions(request: Request) -> StreamingResponse:
        body = await request.json()
        app.state.asked.append(body)
        return StreamingResponse(events(body["prompt"], False), media_type="text/event-stream")

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        body = await request.json()
        app.state.asked.append(body)
        return StreamingResponse(events(body["messages"][-1]["content"], True), media_type="text/event-stream")

    return app


@pytest.fixture(scope="session")
def script() -> Iterator[Running]:
    running = Running(scripted())
    yield running
    running.stop()


@pytest.fixture(scope="session")
def bundled() -> Iterator[dict[str, Running]]:
    """The bundled models behind the real server, open and behind a key."""
    pytest.importorskip("prometheus_client")
    import interlace
    from interlace.engine import Engine, Service
    from interlace.serve.app import make_app
    from interlace.serve.desk import Limits
    from interlace.serve.served import Served

    models = {name: interlace.load(name) for name in ("twin", "base")}
    services = {name: Service(Engine(model)) for name, model in models.items()}
    served = [Served(name, model, services[name]) for name, model in models.items()]
    running = {"open": Running(make_app(served)), "locked": Running(make_app(served, Limits(keys=("secret",))))}
    yield running
    for one in running.values():
        one.stop()
    for service in services.values():
        service.close()


@pytest.fixture(scope="session")
def random(services: list[Any]) -> Iterator[Running]:
    """Random models, whose text is random bytes; twin has a chat template."""
    from interlace.serve.app import make_app

    running = Running(make_app(services))
    yield running
    running.stop()


@pytest.fixture
def mute(services: list[Any]) -> Iterator[Running]:
    """A model behind a server that refuses conversations."""
    from dataclasses import replace

    from interlace.serve.app import make_app

    running = Running(make_app([replace(services[1], template="none")]))
    yield running
    running.stop()


@pytest.fixture
def real(bundled: dict[str, Running]) -> Running:
    return bundled["open"]


FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP = {"width": 1366, "height": 860}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Closed behind every module: while the driver runs, nobody else can run an event loop in this thread."""
    driver = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Reader:
    """A page of playwright, and what the tests ask of it."""

    def __init__(self, found: Any) -> None:
        self.page = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def until(self, condition: str) -> None:
        """Wait for a condition. (playwright's own wait is made of eval, which the page forbids.)"""
        for _ in range(600):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(30)
        raise AssertionError(f"never came: {condition}")

    def finished(self) -> None:
        """Wait for the end of the answers."""
        self.until("/^(Finished|Stopped)/.test(document.getElementById('status').textContent)")

    def stat(self, name: str, lane: int = 0) -> float:
        """A number below a text."""
        return float(self.page.locator(f"[data-stat={name}]").nth(lane).inner_text().replace(",", ""))

    def written(self, lane: int = 0) -> str:
        """What the model wrote, as it is seen."""
        tokens = self.page.locator(".lane").nth(lane).locator(".token:not(.cut)")
        return "".join(tokens.evaluate_all("nodes => nodes.map(node => node.textContent)"))

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Reader]]:
    """Opens the page of a server; at the end nobody else was asked for anything, and the console is silent.

    state: the address behind #. failing: a complaint that is expected. ready: whether to wait for the models.
    """
    complaints: list[str] = []
    strangers: list[str] = []
    expected: list[str] = []
    contexts = []

    def go(
        running: Running, state: str = "pace=0", failing: str | None = None, ready: bool = True, **options: Any
    ) -> Reader:
        if failing:
            expected.append(failing)
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        context.set_default_timeout(20_000)
        contexts.append(context)
        found = context.new_page()
        found.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.on("request", lambda one: None if one.url.startswith(running.url) else strangers.append(one.url))
        found.goto(f"{running.url}#{state}")
        if ready:
            found.wait_for_selector("html[data-ready]")
        return Reader(found)

    yield go
    for context in contexts:
        context.close()
    assert strangers == []
    assert [one for one in complaints if not any(known in one for known in expected)] == []
