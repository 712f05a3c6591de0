"""Tiny random models behind a server: their text is random bytes, so characters are split over units all the time."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from interlace.attention.positions import Rope
from interlace.checkpoints import Checkpoint
from interlace.engine import Engine, Failure, Service
from interlace.generation import Event
from interlace.model import Model
from interlace.nn import Transformer, TransformerConfig
from interlace.systems import find
from interlace.worlds.tokenizer import END_ID, MASK_ID, train_tokenizer

try:
    import httpx
    import websockets  # noqa: F401

    from interlace.serve.app import make_app
    from interlace.serve.compiling import Compiler
    from interlace.serve.desk import Limits
    from interlace.serve.run import Server, configured
    from interlace.serve.served import Served
except ModuleNotFoundError:  # without the extra `serve` nothing of this can be tested
    collect_ignore_glob = ["test_*.py"]

SOURCE = 'def area(width, height):\n    """Of a rectangle."""\n    return width * height\n'
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('too late') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def model(system: str, block_size: int | None, template: str | None = None) -> Model:
    """Random weights, wide enough for the likeliest token to depend on the context."""
    tokenizer = train_tokenizer([SOURCE], 300)
    config = TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2,
        num_kv_heads=1, head_dim=8, max_positions=256, rope=Rope((100.0,)),
    )  # fmt: skip
    network = Transformer(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=0.7, generator=generator)
    files = {} if template is None else {"chat_template.jinja": template.encode()}
    mask = MASK_ID if block_size else None
    checkpoint = Checkpoint(
        network.eval(), tokenizer, system, block_size, mask, (END_ID,), pad_token_id=END_ID, tokenizer_files=files
    )
    chosen = find(system if block_size else "ar")
    settings = chosen.settings.but(block_size=block_size, mask_id=mask) if block_size else chosen.settings
    return Model(checkpoint, chosen, settings)


@pytest.fixture(scope="session")
def twin() -> Model:
    """Block diffusion in blocks of 4, with a chat template."""
    return model("sdar", 4, TEMPLATE)


@pytest.fixture(scope="session")
def base() -> Model:
    """Autoregressive, without a template."""
    return model("qwen3", None)


@pytest.fixture(scope="session")
def services(twin: Model, base: Model) -> Iterator[list[Served]]:
    """The engines of all tests, which share them."""
    found = [Served(name, one, Service(Engine(one))) for name, one in (("twin", twin), ("base", base))]
    yield found
    for one in found:
        one.service.close()


Client = Callable[..., Any]


@pytest.fixture(scope="session")
def plain_app(services: list[Served]) -> Any:
    return make_app(services)


@pytest.fixture
def ask(services: list[Served], plain_app: Any) -> Client:
    """``ask("/v1/completions", {...})``: the answer of a server, in this process; bytes are sent as they are."""

    def run(path: str, body: Any = None, limits: Limits | None = None, method: str | None = None, **more: Any) -> Any:
        app = plain_app if limits is None else make_app(services, limits)

        async def go(client: Any) -> Any:
            content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            headers = {} if content is None else {"Content-Type": "application/json"}
            verb = method or ("GET" if content is None else "POST")
            sent = {"headers": headers | more.pop("headers", {})}
            return await client.request(verb, path, content=content, **sent, **more)

        return asyncio.run(within(app, go))

    return run


async def within(app: Any, work: Callable[[Any], Awaitable[Any]]) -> Any:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await work(client)


def events(text: str) -> list[dict[str, Any]]:
    """The data of server-sent events, read strictly; the last of them is ``[DONE]``, which is left out."""
    assert text.endswith("\n\n") and text.isascii() and "\r" not in text
    parts = text.removesuffix("\n\n").split("\n\n")
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts]


@pytest.fixture
def stream(ask: Client) -> Callable[..., list[dict[str, Any]]]:
    """The chunks of a streamed answer."""

    def run(path: str, body: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        response = ask(path, body | {"stream": True}, **more)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return events(response.text)

    return run


@pytest.fixture
def refused(ask: Client) -> Callable[..., dict[str, Any]]:
    """The error of what is refused with this status, which names this field."""

    def run(body: Any, param: str | None, path: str = "/v1/completions", status: int = 400, **more: Any) -> Any:
        response = ask(path, body, **more)
        assert response.status_code == status, response.text
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["message"]
        assert error["param"] == param, error
        return dict(error)

    return run




class Held(Engine):
    """An engine that makes a move only when it is let, or slowly, and that can be made to fail."""

    def __init__(self, model: Model, pause: float = 0.0) -> None:
        super().__init__(model)
        self.seconds, self.broken = pause, False
        self.open = threading.Event()
        self.open.set()

    def step(self) -> list[Event | Failure]:
        if self.busy:
            self.open.wait(10)
            time.sleep(self.seconds)
        if self.broken and self.busy:
            self.broken = False
            raise RuntimeError("a broken kernel")
        return super().step()


class Running:
    """A server in a thread."""

    def __init__(
        self, models: list[Served], limits: Limits, seconds: float, compiler: Compiler | None = None
    ) -> None:
        app = make_app(models, limits, compiler)
        config = configured(app, "127.0.0.1", 0, limits)
        self.desk, self.served = app.state.desk, models[0]
        self.server = Server(config, app.state.desk, seconds)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.run, args=([self._socket],), daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def post(self, body: dict[str, Any], path: str = "/v1/completions", **more: Any) -> Any:
        return httpx.post(self.url + path, json={"prompt": "def area("} | body, **{"timeout": 20} | more)

    def metric(self, name: str) -> float:
        lines = httpx.get(self.url + "/metrics").text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"interlace:{name}"))

    def stop(self) -> None:
        self.server.force_exit = self.server.should_exit = True
        self.thread.join(10)
        self._socket.close()


@contextmanager
def served(
    model: Model,
    limits: Limits | None = None,
    seconds: float = 10.0,
    pause: float = 0.0,
    compiler: Compiler | None = None,
) -> Iterator[Running]:
    service = Service(Held(model, pause))
    found = Running([Served("twin", model, service)], limits or Limits(), seconds, compiler)
    try:
        yield found
    finally:
        service.engine.open.set()  # type: ignore[attr-defined]
        found.stop()
        service.close()


@pytest.fixture
def running() -> Callable[..., Any]:
    """``with running(model, limits, seconds, pause) as server``: a server of an engine that can be held."""
    return served


@pytest.fixture(scope="session")
def server(services: list[Served]) -> Iterator[Running]:
    """A server of both models."""
    found = Running(services, Limits(), 5.0)
    yield found
    found.stop()
