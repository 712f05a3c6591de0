"""The page at ``/``: files of ``page/``, served with the headers of a page that loads nothing from elsewhere."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from fastapi import APIRouter, Request, Response

__all__ = ["HEADERS", "router"]

FILES = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # may be kept, and is asked for by its ETag: a new version is seen at once
}
"""Of every answer below: scripts and styles are the page's own files, and a text of a model can never become markup."""


def _answer(request: Request, content: bytes, kind: str, tag: str) -> Response:
    headers = HEADERS | {"ETag": tag}
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def router() -> APIRouter:
    """Routes of the page: ``/`` and ``/page/NAME`` for each of its files. They need no key: nothing in them is secret.

    The files are read once, so no path of a request ever reaches the disk.

    >>> sorted(route.path for route in router().routes)[:2]
    ['/', '/page/api.js']
    """
    routes = APIRouter(include_in_schema=False)
    for file in sorted(file for file in FILES.iterdir() if file.suffix in TYPES):
        content = file.read_bytes()
        tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
        answer = partial(_answer, content=content, kind=TYPES[file.suffix], tag=tag)
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        routes.add_route(path, answer, methods=["GET"], include_in_schema=False)
    return routes
