"""The files of the page, as they are served. What a reader meets in a browser is tested in browser/."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi import FastAPI
from fastapi.testclient import TestClient

from interlace.engine import Engine, Service
from interlace.serve import page
from interlace.serve.served import Served

from ..engine.tiny import model

FILES = Path(page.__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(page.router())
    return TestClient(app)


def address(file: Path) -> str:
    return "/" if file.name == "index.html" else f"/page/{file.name}"


@pytest.mark.parametrize("file", sorted(FILES.iterdir()), ids=lambda file: file.name)
def test_every_file_comes_with_its_type_and_the_headers(client: TestClient, file: Path) -> None:
    answer = client.get(address(file))
    assert answer.status_code == 200
    assert answer.content == file.read_bytes()
    assert answer.headers["content-type"] == TYPES[file.suffix]
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_page_that_is_known_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for known in (tag, f'"other", W/{tag}', "*"):
        again = client.get("/", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert client.get("/page/style.css", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("path", ["/page/", "/page/none.js", "/page/..%2fpage.py", "/page/%2e%2e/page.py", "/page.py"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_page_loads_nothing_from_elsewhere_and_writes_no_markup() -> None:
    names = {"http://www.w3.org/2000/svg"}  # of a namespace; nobody loads it
    for file in FILES.iterdir():
        text = file.read_text()
        assert set(re.findall(r"[a-z]+://[^\s\"'<>)]*", text)) <= names, file.name
        assert not re.search(r"(url\(|@import|\ssrc=|\shref=)[\"']?//", text), file.name
        assert not re.search(r"(inner|outer|Adjacent)HTML|document\.write|\beval\(|new Function", text), file.name
        if file.suffix == ".html":
            assert not re.search(r"\s(on[a-z]+|style)=|<style|javascript:|<script(?![^>]*src=)", text)


def test_every_file_is_used_and_every_file_that_is_used_is_there() -> None:
    used, queue = {"index.html"}, ["index.html"]
    while queue:
        name = queue.pop()
        text = (FILES / name).read_text()
        found = re.findall(r"(?:src|href)=\"page/([^\"]+)\"", text) + re.findall(r"from \"\./([^\"]+)\"", text)
        for other in set(found) - used:
            used.add(other)
            queue.append(other)
    assert used == {file.name for file in FILES.iterdir()}


@pytest.mark.parametrize("name", ["sdar", "llada", "eoser-ass-cjgrpo"])
def test_what_a_form_is_told_of_the_rules(name: str) -> None:
    made = model("sdar", block_size=4).under(name).with_(order_temperature=float("inf"))
    service = Service(Engine(made, slots=64))
    try:
        card = Served("one", made, service).card(0)["interlace"]
    finally:
        service.close()
    reveal = card["settings"]["reveal"]
    assert {"dynamic", "ancestral", "threshold"} <= set(reveal["enum"])
    assert reveal["default"] == (None if name == "llada" else "dynamic")
    assert card["systems"] == list(card["decodings"]) and card["decodings"]["ar"] == {
        "title": "Autoregression", "block_size": 1, "infills": False, "denoises": False
    }  # fmt: skip
    assert card["decodings"]["sdar"] == {"title": "SDAR", "block_size": 4, "infills": True, "denoises": True}
    assert card["dial"] == (None if made.system.dial is None else "threshold")
    assert json.loads(json.dumps(card, allow_nan=False))["settings"]["order_temperature"]["default"] == "inf"
    assert made.settings.but(order_temperature="inf") == made.settings
