"""The server process: models opened, the application run, and stopped without losing an answer."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from ..engine import Engine, Service, Workers
from ..errors import SettingError
from ..hardware import free_memory
from .app import make_app
from .compiling import Compiler
from .desk import Desk, Limits
from .guard import Lines
from .patience import Patient, Spoken
from .replicas import Replicas
from .served import Served

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Server", "configured", "fitting", "logged", "named", "serve"]

log = logging.getLogger("interlace.serve")
LAST = 1.0
"""Seconds that errors have to reach clients before their connections are closed."""


class Server(uvicorn.Server):
    """Stops in order: at the first SIGTERM or SIGINT nothing new is taken (/ready says so) and what is under way may
    end, for ``seconds``; at a second one the server stops at once."""

    def __init__(self, config: uvicorn.Config, desk: Desk, seconds: float) -> None:
        super().__init__(config)
        self.desk, self.seconds = desk, seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for socket in self.servers[0].sockets if self.servers else ():
            host, port = socket.getsockname()[:2]
            log.info("serving", extra={"fields": {"url": f"http://{host}:{port}", "models": [*self.desk.models]}})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.desk.draining or self._loop is None:
            self.should_exit = self.force_exit = True
            return
        self.desk.draining = True
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._drain = asyncio.create_task(self.drain())

    async def drain(self) -> None:
        """Wait for the answers under way, then stop."""
        end = asyncio.get_running_loop().time() + self.seconds
        log.info("draining", extra={"fields": {"active": self.desk.active, "seconds": self.seconds}})
        while self.desk.active and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)
        if self.desk.compiler is not None:
            self.desk.compiler.close()
        log.info("stopping", extra={"fields": {"active": self.desk.active}})
        for served in self.desk.models.values() if self.desk.active else ():
            await asyncio.to_thread(served.service.close)  # what is still under way hears an error
        end = asyncio.get_running_loop().time() + LAST
        while self.desk.active and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        self.should_exit = True


def named(given: str) -> tuple[str, str]:
    """The name under which a model is served, and where it is: ``NAME=PATH``, or a path with the name at its end.

    >>> named("small=models/twin"), named("./models/twin"), named("Qwen/Qwen3-0.6B")
    (('small', 'models/twin'), ('twin', './models/twin'), ('Qwen/Qwen3-0.6B', 'Qwen/Qwen3-0.6B'))
    """
    name, equals, path = given.partition("=")
    if equals and name and path and "/" not in name:
        return name, path
    here = Path(given)
    hub = given.count("/") == 1 and not here.exists() and not given.endswith("/") and given[0] not in "./~"
    return given if hub else here.name or given, given


def serve(
    models: Sequence[tuple[str, Callable[..., Model]]],
    host: str,
    port: int,
    limits: Limits,
    drain_seconds: float = 30.0,
    template: str | None = None,
    level: str = "info",
    slots: int | None = None,
    rows: int = 64,
    waiting: int = 1024,
    workers: int = 1,
    replicas: int = 0,
    graphs: bool = True,
) -> None:
    """Serve until told to stop.

    models: by name what opens them, on a ``device`` if that is passed. slots, rows, waiting, graphs: of each engine;
    see ``Engine``. workers: processes of a model, each with an engine; 0: engines are threads of this process.
    replicas: of each model by Ray Serve, in place of workers; 0: none.

    Raises ``SettingError`` for a place that cannot be listened on, and what opening a model raises.
    """
    logged(level)
    names = [name for name, _ in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError(f"two models are called {twice}; name one of them: NAME=PATH")
    socket = bound(host, port)
    served: list[Served] = []
    compiler = Compiler()
    try:
        for name, opening in models:
            engines = len(models) * max(1, replicas or workers)
            make = partial(_engine, opening, slots, engines, rows=rows, waiting=waiting, graphs=graphs)
            model = opening(device="meta") if replicas or workers else opening()
            service: Service | Workers | Replicas
            if replicas:
                service = Replicas(model, make, replicas, engines)
            else:
                service = Workers(model, make, workers) if workers else Service(make(model=model))
            served.append(Served(name, model, service, "none" if template == "none" else "plain"))
        app = make_app(served, limits, compiler)
        config = configured(app, host, port, limits)
        Server(config, app.state.desk, drain_seconds).run([socket])
    finally:
        socket.close()
        compiler.close()
        for one in served:
            one.service.close()


def _engine(
    opening: Callable[[], Model], slots: int | None, others: int, model: Model | None = None, **how: Any
) -> Engine:
    """An engine of the model, or of the one that ``opening`` gives. others: how many share the device's memory."""
    found = opening() if model is None else model
    return Engine(found, fitting(found, others) if slots is None else slots, **how)


def fitting(model: Model, models: int) -> int:
    """Tokens that an engine's memory holds: 65,536, or what a quarter of the device's free memory has room for."""
    weight, config = next(model.network.parameters()), model.checkpoint.config
    size = 2 * config.num_layers * config.num_kv_heads * config.head_dim * weight.element_size()
    return max(1024, min(65_536, free_memory(weight.device) // 4 // models // size))


def configured(app: Any, host: str, port: int, limits: Limits) -> uvicorn.Config:
    """How uvicorn runs the application."""
    return uvicorn.Config(
        app,
        host,
        port,
        http=type("Timed", (Patient,), {"seconds": limits.body_seconds}),
        ws=Spoken,
        ws_max_size=limits.body_bytes,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )


def bound(host: str, port: int) -> Any:
    """A socket that listens; ``SettingError`` where that cannot be."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        why = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"{host}:{port} cannot be listened on ({why}); pass another --port") from None
    found.set_inheritable(True)
    return found


class Stderr(logging.StreamHandler[Any]):
    """Writes to what stderr is at the time: a program that runs a server may change it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def logged(level: str) -> None:
    """Everything that is logged goes to stderr, a line of JSON each."""
    handler = Stderr()
    handler.setFormatter(Lines())
    for name in ("interlace.serve", "interlace.engine", "uvicorn.error", "uvicorn"):
        one = logging.getLogger(name)
        one.handlers, one.propagate = [handler], False
        one.setLevel(level.upper() if name.startswith("interlace") else "WARNING")
