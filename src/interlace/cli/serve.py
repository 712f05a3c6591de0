"""interlace serve"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting, command
from .console import say
from .models import OPENING, open_text_model
from .settings import DECODING

if TYPE_CHECKING:
    from ..model import Model


@command(
    Setting(
        "models",
        list[str],
        "models to serve: folders, Hugging Face names or bundled models; NAME=PATH names one",
        shown="twin base",
        place=True,
        file=False,
    ),
    Setting("host", str, "address to listen on; 0.0.0.0 is every one of this machine's", "127.0.0.1", panel="Server"),
    Setting("port", int, "port to listen on; 0 takes a free one", 8000, panel="Server"),
    Setting(
        "api_key",
        list[str],
        "clients must show this key; may be repeated",
        shown="$INTERLACE_API_KEY, or none",
        panel="Server",
        file=False,
    ),
    Setting("cors_origin", list[str], "pages of this origin may ask; may be repeated", panel="Server"),
    Setting("max_body_bytes", int, "longer bodies are refused", 1 << 20, panel="Server"),
    Setting("body_seconds", float, "slower bodies are refused", 30.0, panel="Server"),
    Setting("request_seconds", float, "an answer that takes longer is ended", 600.0, panel="Server"),
    Setting("drain_seconds", float, "on SIGTERM, answers under way may take so long", 30.0, panel="Server"),
    Setting("chat_template", str, "auto: the model's, or else plain turns; none: no chats", "auto", panel="Server"),
    Setting("metrics_prefix", str, "of the metrics' names; vllm fits its dashboards", "interlace", panel="Server"),
    Setting("slots", int, "tokens that a model's memory holds, for all its requests", shown="65536, if they fit",
            panel="Engine"),
    Setting("rows", int, "requests of a model that share forwards; further ones wait", 64, panel="Engine"),
    Setting("waiting", int, "requests that may wait; further ones are refused", 1024, panel="Engine"),
    Setting("workers", int, "processes of a model, each with an engine; 0: none but the server's", 1, panel="Engine"),
    Setting("replicas", int, "engines of a model by Ray Serve, in place of workers; 0: none", 0, panel="Engine"),
    Setting("graphs", bool, "on CUDA, small forwards are recorded and played again", True, panel="Engine"),
    Setting("log_level", str, "what is logged to stderr: debug, info, warning, error", "info", panel="Server"),
    *DECODING,
    *OPENING,
    panel="Use",
    json=False,
)  # fmt: skip
def serve(
    models: list[str] | None,
    host: str,
    port: int,
    api_key: list[str] | None,
    cors_origin: list[str] | None,
    max_body_bytes: int,
    body_seconds: float,
    request_seconds: float,
    drain_seconds: float,
    chat_template: str,
    metrics_prefix: str,
    slots: int | None,
    rows: int,
    waiting: int,
    workers: int,
    replicas: int,
    graphs: bool,
    log_level: str,
    system: str | None,
    dtype: str | None,
    device: str | None,
    **decoding: Any,
) -> None:
    """Serve models over HTTP, as OpenAI's API: completions, chats, streams.

    POST /v1/completions and /v1/chat/completions, GET /v1/models, the WebSocket
    /v1/stream, /health, /ready and /metrics. Requests share forwards. Without
    a model, the bundled twin and base are served.

    [bold]Examples[/bold]
      interlace serve
      interlace serve runs/twin --port 8080
      interlace serve small=runs/small large=runs/large --api-key secret
      interlace serve twin --threshold 0.8 --host 0.0.0.0

    Settings of the decoding are the defaults of all models; a request may change
    them. SIGTERM lets answers under way end.
    """
    if log_level not in ("debug", "info", "warning", "error"):
        raise SettingError(f"--log-level is {log_level!r}; pass debug, info, warning or error")
    if chat_template not in ("auto", "none"):
        raise SettingError(f"--chat-template is {chat_template!r}; pass auto or none")
    if max_body_bytes < 1 or min(body_seconds, request_seconds) <= 0 or drain_seconds < 0 or not 0 <= port < 65536:
        raise SettingError("--max-body-bytes, --body-seconds and --request-seconds are positive, --port below 65536")
    if min(rows, 1 if slots is None else slots) < 1 or waiting < 0:
        raise SettingError("--slots and --rows are 1 or more, --waiting 0 or more; correct them")
    if min(workers, replicas) < 0:
        raise SettingError("--workers and --replicas are 0 or more; correct them")
    if not metrics_prefix.isidentifier():
        raise SettingError(f"--metrics-prefix is {metrics_prefix!r}; pass a word of letters, digits and _")
    try:
        from ..serve.desk import Limits
        from ..serve.run import named
        from ..serve.run import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "interlace":
            raise
        raise SettingError(f"{error.name} is missing, which a server needs; pip install 'interlace[serve]'") from None
    keys = api_key or [key for key in [os.environ.get("INTERLACE_API_KEY")] if key]
    if not all(key.strip() == key and key for key in keys):
        raise SettingError("--api-key is empty or begins or ends with a space; pass a word")
    if host not in ("127.0.0.1", "localhost", "::1") and not keys:
        say(f"warning: everybody who reaches {host}:{port} may ask; pass --api-key")
    limits = Limits(
        tuple(keys), tuple(cors_origin or ()), max_body_bytes, body_seconds, request_seconds, metrics_prefix
    )
    opened = [
        (name, partial(_open, path, system, dtype, device, decoding))
        for name, path in map(named, models or ["twin", "base"])
    ]
    engines: dict[str, Any] = {"slots": slots, "rows": rows, "waiting": waiting, "graphs": graphs}
    engines |= {"workers": workers, "replicas": replicas}
    run(opened, host, port, limits, drain_seconds, chat_template, log_level, **engines)


def _open(
    path: str,
    system: str | None,
    dtype: str | None,
    given: str | None,
    decoding: dict[str, Any],
    device: str | None = None,
) -> Model:
    """A model of the command line, in whichever process; device: another than the one that was given."""
    return open_text_model(path, system, dtype, device or given, decoding)
