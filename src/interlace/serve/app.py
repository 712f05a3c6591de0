"""The application: its routes, and what stands before them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from .. import __version__
from . import completions, page
from .compiling import Compiler
from .desk import Desk, Limits
from .documents import described
from .guard import Keys, Noted
from .served import Served
from .socket import Session
from .sse import Json
from .wire import Refused

__all__ = ["make_app"]


def make_app(
    models: Sequence[Served], limits: Limits | None = None, compiler: Compiler | None = None
) -> FastAPI:
    """An ASGI application that serves these models; ``app.state.desk`` is its ``Desk``. compiler: makes constraints in
    a process of its own, and is the caller's to close."""
    desk = Desk({served.name: served for served in models}, limits or Limits(), compiler=compiler)
    app = FastAPI(title="interlace", version=__version__, docs_url=None, redoc_url=None)
    app.state.desk = desk
    app.include_router(completions.routes(desk))
    app.include_router(page.router())

    @app.get("/v1/models", **described("The models that are served, and the settings of their decoding"))
    async def models_() -> Response:
        return Json({"object": "list", "data": [one.card(desk.created) for one in desk.models.values()]})

    @app.get("/v1/models/{name:path}", **described("One of the models"))
    async def model(name: str) -> Response:
        return Json(desk.served(name).card(desk.created))

    @app.head("/health", include_in_schema=False)
    @app.get("/health", **described("Whether the server runs"))
    async def health() -> Response:
        engines = {name: {"up": one.service.up, "of": one.service.count} for name, one in desk.models.items()}
        failed = desk.stuck and not desk.draining
        return Json({"status": "failed" if failed else "ok", "engines": engines}, 503 if failed else 200)

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", **described("Whether the server takes requests"))
    async def ready() -> Response:
        late = "failed" if desk.stuck else "starting"  # a process of an engine again, and no other is there
        word = "ready" if desk.ready else "draining" if desk.draining else late
        return Json({"status": word}, 200 if desk.ready else 503)

    @app.get("/metrics", **described("Metrics in Prometheus' text", kind="text/plain"))
    async def metrics() -> Response:
        return Response(await run_in_threadpool(desk.metrics.text), media_type="text/plain; version=0.0.4")

    @app.websocket("/v1/stream")
    async def units(socket: WebSocket) -> None:
        await Session(desk, socket).run()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return Json(error.body, error.status, error.headers)

    async def missing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: "there is nothing here", 405: "this path does not take this method"}
        told = Refused(words.get(error.status_code, str(error.detail)), status=error.status_code)
        return Json(told.body, error.status_code, error.headers)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, missing)
    # the last one added is the first one passed
    if desk.limits.keys:
        app.add_middleware(Keys, keys=desk.limits.keys)
    if desk.limits.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(desk.limits.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # clients say of themselves what they like (x-stainless-*)
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(Noted)
    return app
