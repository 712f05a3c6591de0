"""The page: what is served of it, and what a reader meets in a browser.

The second half drives Chromium through playwright, against a server with the bundled models; it is skipped where either
is absent. Screenshots are kept in build/screenshots, or in the folder that INTERLACE_SCREENSHOTS names.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from interlace.serve import page as served_page

FILES = Path(served_page.__file__).parent / "page"
ROOT = Path(__file__).parents[2]
SHOTS = Path(os.environ.get("INTERLACE_SCREENSHOTS") or ROOT / "build" / "screenshots")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# --- without a browser ------------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(served_page.router())
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
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), file.name
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


# --- servers ----------------------------------------------------------------------------------------------------------


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

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


def unit(index: int, start: int, forwards: int, tokens: list[tuple[Any, ...]]) -> dict[str, Any]:
    """tokens: texts with the step that fixed them, None for one that is masked."""
    rows = [
        {"id": None, "text": "", "logprob": None, "order": None} if one is None
        else {"id": number, "text": one[0], "logprob": -0.25, "order": one[1]}
        for number, one in enumerate(tokens)
    ]  # fmt: skip
    masked = sum(one is None for one in tokens)
    return {
        "index": index, "start": start, "clean": not masked, "level": masked / len(tokens), "forwards": forwards,
        "tokens": rows,
    }  # fmt: skip


def scripted() -> FastAPI:
    """A server that says what it is told to: the last message, or the prompt, names what goes wrong."""
    app = FastAPI()
    app.include_router(served_page.router())
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
        yield chunk(" é!", unit(1, 2, 3, [(" \ufffd", 0), ("\ufffd", 0), ("!", 0), ("<end>", 0)]), "stop")
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


@pytest.fixture(scope="module")
def script() -> Iterator[Running]:
    running = Running(scripted())
    yield running
    running.stop()


@pytest.fixture(scope="module")
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


@pytest.fixture
def real(bundled: dict[str, Running]) -> Running:
    return bundled["open"]


# --- a browser --------------------------------------------------------------------------------------------------------

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP = {"width": 1366, "height": 860}
PHONE = {"width": 375, "height": 812}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium")
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Opens the page; at the end nobody else was asked for anything, and the console is silent."""
    complaints: list[str] = []
    strangers: list[str] = []
    contexts = []
    expected: list[str] = []

    def go(running: Running, state: str = "pace=0", failing: str | None = None, **options: Any) -> Any:
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
        found.wait_for_selector("html[data-ready]")
        return found

    yield go
    for context in contexts:
        context.close()
    assert strangers == []
    assert [one for one in complaints if not any(known in one for known in expected)] == []


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def until(page: Any, condition: str) -> None:
    """Wait for a condition. (playwright's own wait is made of eval, which the page forbids.)"""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(30)
    raise AssertionError(f"never came: {condition}")


def finished(page: Any) -> None:
    until(page, "/^(Finished|Stopped)/.test(document.getElementById('status').textContent)")


def stat(page: Any, name: str, lane: int = 0) -> float:
    return float(page.locator(f"[data-stat={name}]").nth(lane).inner_text().replace(",", ""))


def new_text(page: Any, lane: int = 0) -> str:
    """What the model wrote, as it is seen."""
    tokens = page.locator(".lane").nth(lane).locator(".token:not(.cut)")
    return "".join(tokens.evaluate_all("nodes => nodes.map(node => node.textContent)"))


def asked_again(running: Running, **body: Any) -> str:
    """What the server answers to the same request without a stream."""
    import httpx

    return httpx.post(running.url + "v1/completions", json=body, timeout=60).json()["choices"][0]["text"]


WATCH = """() => {
  window.tones = new Map();
  const tone = node => node.classList.contains("masked") ? "masked" : node.classList.contains("draft") ? "draft" : "committed";
  const note = node => {
    if (!node.classList?.contains("token")) return;
    const seen = window.tones.get(node) ?? [];
    if (seen.at(-1) !== tone(node)) seen.push(tone(node));
    window.tones.set(node, seen);
  };
  new MutationObserver(records => records.forEach(one => { note(one.target); one.addedNodes.forEach(node => {
    note(node); node.querySelectorAll?.(".token").forEach(note);
  }); })).observe(document.querySelector(".text"), { subtree: true, childList: true, attributeFilter: ["class"] });
}"""


def test_tokens_are_masked_then_drafted_then_committed(visit: Visit, real: Running) -> None:
    page = visit(real, "pace=30&tokens=32&model=twin")
    shot(page, "empty")
    page.click("#examples >> text=A class")
    page.evaluate(WATCH)
    page.click("#go")
    finished(page)
    histories = page.evaluate("[...window.tones.values()]")
    order = ["masked", "draft", "committed"]
    assert len(histories) == 32
    assert order in histories
    for seen in histories:
        assert seen == [tone for tone in order if tone in seen]  # never back
        assert seen[-1] == "committed"
    prompt = page.input_value("#prompt")
    assert new_text(page) == asked_again(real, model="twin", prompt=prompt, max_tokens=32, seed=0)
    assert stat(page, "tokens") == 32
    forwards = stat(page, "forwards")
    assert stat(page, "ratio") == pytest.approx(32 / forwards, abs=0.006)
    assert stat(page, "rate") > 0
    assert page.locator(".cells rect").count() >= forwards
    assert page.locator("#where").inner_text() == f"{forwards:.0f} / {forwards:.0f}"
    page.focus("#at")
    page.keyboard.press("Home")
    while not page.locator(".text .draft").count() or not page.locator(".text .masked").count():
        page.keyboard.press("ArrowRight")  # back to where all three tones are seen
    page.keyboard.press("PageDown")
    shot(page, "live")


def test_hover_and_focus_show_the_confidence(visit: Visit, real: Running) -> None:
    page = visit(real, "pace=0&tokens=12&model=twin&prompt=class+Point:")
    page.click("#go")
    finished(page)
    said: list[tuple[str, float]] = []
    for number in range(3):
        token = page.locator(".text .token").nth(number)
        token.hover()
        said.append((page.inner_text("#tip strong"), float(re.search(r"confidence ([\d.]+)", page.inner_text("#tip"))[1])))
    import httpx

    body = {"model": "twin", "prompt": "class Point:", "max_tokens": 12, "seed": 0, "logprobs": 0}
    choice = httpx.post(real.url + "v1/completions", json=body).json()["choices"][0]
    for (_, share), log_prob in zip(said, choice["logprobs"]["token_logprobs"], strict=False):
        assert share == pytest.approx(100 * 2.718281828 ** log_prob, abs=0.51)
    shot(page, "confidence")
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()
    page.locator(".text").focus()
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tip strong") == said[0][0]
    assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tip strong") == said[1][0]
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.check("#sure")
    assert page.locator(".shade").count() == 1


def test_two_models_side_by_side(visit: Visit, real: Running) -> None:
    prompt = "class Point:\n    def __init__(self, x, y):"
    state = f"view=compare&model=twin&with=base&tokens=48&pace=0&prompt={quote(prompt)}"
    page = visit(real, state, color_scheme="dark")
    page.click("#go")
    finished(page)
    for lane, name in enumerate(("twin", "base")):
        assert page.locator(".lane h2").nth(lane).inner_text() == name
        assert new_text(page, lane) == asked_again(real, model=name, prompt=prompt, max_tokens=48, seed=0)
        assert stat(page, "tokens", lane) == 48
    assert stat(page, "ratio", 1) == 1
    assert stat(page, "ratio", 0) > 1
    box = [page.locator(".lane").nth(lane).bounding_box() for lane in (0, 1)]
    assert box[0]["y"] == box[1]["y"] and box[0]["x"] + box[0]["width"] <= box[1]["x"]
    scale = page.locator(".path > svg").evaluate_all("nodes => nodes.map(node => node.getAttribute('viewBox'))")
    assert scale[0] == scale[1]  # the slopes can be compared
    assert "twin fixes" in page.inner_text("#verdict")
    shot(page, "compare-dark")


def test_a_selected_gap_is_filled_in_its_place(visit: Visit, real: Running) -> None:
    page = visit(real, "pace=0&model=twin")
    assert page.locator("#fill").is_disabled()
    page.click("#examples >> text=A gap")
    before, after = page.input_value("#prompt").split("...")
    assert page.inner_text("#gap") == "The gap takes the place of ..."
    page.click("#fill")
    finished(page)
    filled = new_text(page)
    length = int(page.input_value("#hole"))
    assert filled == asked_again(real, model="twin", prompt=before, suffix=after, max_tokens=length, seed=0)
    assert page.locator(".text").evaluate("node => node.textContent") == before + filled + after
    shot(page, "gap")
    page.click(".keep")
    assert page.input_value("#prompt") == before + filled + after
    page.select_option("#model-a", "base")
    assert page.locator("#fill").is_disabled()
    assert page.inner_text("#gap") == "base cannot fill a gap; twin can."


def test_stop_ends_the_request_and_keeps_what_has_come(visit: Visit, real: Running) -> None:
    page = visit(real, "pace=0&model=base&tokens=1900&prompt=import+os")
    page.click("#go")
    page.wait_for_selector(".text .token >> nth=3", state="attached")
    page.click("#stop")
    finished(page)
    assert page.inner_text("#status").startswith("Stopped")
    assert 4 <= stat(page, "tokens") < 1900
    assert page.locator("#go").is_enabled() and page.locator("#stop").is_disabled()
    for _ in range(100):
        if not real.app.state.desk.active:
            break
        page.wait_for_timeout(50)
    assert real.app.state.desk.active == 0
    page.fill("#tokens", "4")
    page.click("#go")
    finished(page)
    until(page, "document.querySelector('[data-stat=tokens]').textContent === '4'")


def test_the_keyboard_is_enough(visit: Visit, real: Running) -> None:
    page = visit(real, "pace=0&model=twin&tokens=8")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type("def load(path):    return None")
    for _ in range(15):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+Enter")
    finished(page)
    assert stat(page, "tokens") == 8
    page.keyboard.press("Control+Shift+Enter")
    until(page, "document.querySelector('.text').textContent.endsWith('    return None')")
    finished(page)
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        where = page.evaluate(
            "[document.activeElement.id || document.activeElement.getAttribute('class'), "
            "getComputedStyle(document.activeElement).outlineStyle, document.activeElement.matches(':focus-visible')]"
        )
        if where[0] == "text":
            page.keyboard.press("End")
            assert "confidence" in page.inner_text("#tip")
            page.keyboard.press("Escape")
            page.locator(".text").focus()
        if where[2] and page.evaluate("document.activeElement !== document.body"):
            assert where[1] != "none", where
        seen.append(where[0])
    assert {"tokens", "hole", "seed", "go", "fill", "text", "play", "at", "pace", "sure"} <= set(seen)
    page.focus("#at")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#at", "aria-valuetext").startswith("forward 1 of ")
    page.keyboard.press("Control+/")
    assert page.locator("#keys").is_visible()
    shot(page, "keys")
    page.keyboard.press("Escape")
    assert page.locator("#keys").is_hidden()
    page.focus("input[name=view]:checked")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#main", "data-view") == "compare"


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = css => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const light = c => c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(one => one.nodeType === 3 && one.textContent.trim());
    if (!own || !node.checkVisibility({ visibilityProperty: true }) || node.closest(":disabled, .quiet, .skip, dialog:not([open]), template")) continue;
    const stack = [];
    for (let at = node; at; at = at.parentElement) stack.push(rgba(getComputedStyle(at).backgroundColor));
    const back = stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
    const ink = over(rgba(getComputedStyle(node).color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${node.className || node.tagName} ${node.textContent.trim().slice(0, 20)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("tone", ["light", "dark"])
def test_light_and_dark_can_be_read(visit: Visit, script: Running, tone: str) -> None:
    page = visit(script, "pace=0&prompt=go", color_scheme=tone)
    page.click("#go")
    finished(page)
    page.click("#settings summary")
    page.focus("#at")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")  # a draft is seen
    page.wait_for_selector(".text .draft")
    page.wait_for_timeout(900)  # its flash is over
    assert page.evaluate(CONTRAST) == []
    shot(page, f"settings-{tone}")
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\\\d+/g).map(Number)[0]".replace("\\\\", "\\")
    assert (page.evaluate(ground) > 128) == (tone == "light")
    page.click("#theme")
    if tone == "light":
        page.click("#theme")
    assert (page.evaluate(ground) > 128) == (tone == "dark")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert (page.evaluate(ground) > 128) == (tone == "dark")


def test_everything_has_a_name(visit: Visit, script: Running) -> None:
    page = visit(script, "pace=0&prompt=go")
    page.click("#go")
    finished(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, svg[tabindex], [role=group]")].filter(node =>
          !(node.getAttribute("aria-label") || node.labels?.length || node.textContent.trim()) ||
          (node.labels && node.tagName !== "BUTTON" && !node.labels.length && !node.getAttribute("aria-label"))
        ).map(node => node.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    tree = page.locator("body").aria_snapshot()
    for landmark in ("banner", "main", 'form "Prompt and settings"', 'region "Result"', "status"):
        assert f"- {landmark}" in tree, landmark


@pytest.mark.parametrize("view", ["complete", "compare"])
def test_a_phone_needs_no_scrolling_sideways(visit: Visit, real: Running, view: str) -> None:
    options = {"viewport": PHONE, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
    page = visit(real, f"view={view}&model=twin&pace=0&tokens=24&prompt=x+=+{'long' * 40}", **options)
    page.tap("#settings summary")
    page.tap("#go")
    finished(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    beyond = page.evaluate(
        f"""() => [...document.querySelectorAll("main *, header *")].filter(node => node.checkVisibility() &&
          !node.closest("svg, .quiet") && node.getBoundingClientRect().right > {PHONE["width"]} + 0.5).map(node => node.outerHTML)"""
    )
    assert beyond == []
    page.locator(".text .token").nth(1).tap()
    assert "confidence" in page.inner_text("#tip")
    shot(page, f"phone-{view}")


def test_motion_is_left_out_where_it_is_not_wanted(visit: Visit, script: Running) -> None:
    page = visit(script, "prompt=go", reduced_motion="reduce")
    assert page.input_value("#pace") == "0"
    page.evaluate("addEventListener('animationstart', () => { window.moved = true; })")
    page.click("#go")
    finished(page)
    assert not page.evaluate("window.moved")
    moving = visit(script, "prompt=go&pace=4", reduced_motion="no-preference")
    moving.evaluate("addEventListener('animationstart', () => { window.moved = true; })")
    moving.click("#go")
    until(moving, "window.moved")


# --- troubles ---------------------------------------------------------------------------------------------------------


def test_a_refusal_is_shown_in_plain_words_with_a_remedy(visit: Visit, real: Running) -> None:
    page = visit(real, "model=twin&prompt=x&tokens=4&set.temperature=3&pace=0", failing="400")
    page.click("#go")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "emperature" in page.inner_text("#trouble .what")
    assert page.inner_text("#trouble .remedy") != ""
    assert page.locator("#go").is_enabled()
    shot(page, "refused")
    page.click("#settings summary")
    page.click("#reset")
    page.click("#trouble .again")
    finished(page)
    assert page.locator("#trouble").is_hidden()


@pytest.mark.parametrize(
    ("word", "what"), [("fail", "The model gave no number."), ("break", "The answer broke off before its end.")]
)
def test_a_stream_that_fails_keeps_what_has_come(visit: Visit, script: Running, word: str, what: str) -> None:
    page = visit(script, f"prompt={word}&pace=0")
    page.click("#go")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble .what") == what
    assert page.inner_text("#trouble .remedy") in ("Ask again.", "What has come is kept. Try again for the rest.")
    page.wait_for_selector(".text .draft")
    assert page.locator("#go").is_enabled()


def test_a_server_that_is_gone(visit: Visit, script: Running) -> None:
    page = visit(script, "prompt=x&pace=0", failing="Failed to load resource")
    page.context.route("**/v1/completions", lambda route: route.abort())
    page.click("#go")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble .what") == "The server does not answer."
    assert "interlace serve" in page.inner_text("#trouble .remedy")
    page.context.unroute("**/v1/completions")
    page.click("#trouble .again")
    finished(page)


def test_a_key_is_asked_for_and_kept_out_of_the_address(visit: Visit, bundled: dict[str, Running], browser: Any) -> None:
    locked = bundled["locked"]
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.goto(f"{locked.url}#pace=0&tokens=4&prompt=x")
    page.wait_for_selector("#ask[open]")
    page.screenshot(path=_kept("key"))
    page.fill("#secret", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask[open]")
    until(page, "document.getElementById('secret').value === ''")
    page.fill("#secret", "secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-ready]")
    page.click("#go")
    finished(page)
    assert "secret" not in page.url
    assert page.evaluate("localStorage.length") == 0
    context.close()


def _kept(name: str) -> Path:
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS / f"{name}.png"


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_what_a_model_writes_is_text_and_only_text(visit: Visit, script: Running) -> None:
    page = visit(script, "prompt=go&pace=0", failing="TrustedHTML")
    page.click("#go")
    finished(page)
    assert new_text(page) == "<b>one</b> two é!"  # whole characters; what lies behind the end is no part of it
    assert page.locator(".text b, .panel b").count() == 0
    assert stat(page, "tokens") == 5
    page.focus("#at")
    page.keyboard.press("Home")
    assert page.locator(".text .masked").count() == 2
    page.keyboard.press("ArrowRight")
    assert page.locator(".text .token").evaluate_all("nodes => nodes.map(n => n.className.split(' ')[1])") == ["draft", "masked"]
    page.keyboard.press("End")
    assert new_text(page) == "<b>one</b> two é!"
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<i>x</i>')")


def test_settings_come_from_the_model_and_only_changes_are_sent(visit: Visit, script: Running) -> None:
    page = visit(script, "prompt=go&pace=0")
    page.click("#settings summary")
    names = page.locator("#panel [name]").evaluate_all("nodes => nodes.map(node => node.name)")
    assert names == ["threshold", "reveal", "steps", "stop"]
    page.click("#go")
    finished(page)
    plain = {"model": "small", "prompt": "go", "max_tokens": 64, "seed": 0, "stream": True, "drafts": True}
    assert script.app.state.asked[-1] == plain | {"stream_options": {"include_usage": True}}
    page.fill("#set-threshold", "0.6")
    page.select_option("#set-reveal", "static")
    page.fill("#set-stop", "\\nclass")
    page.fill("#seed", "7")
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    finished(page)
    sent = script.app.state.asked[-1]
    assert (sent["threshold"], sent["reveal"], sent["stop"], sent["seed"]) == (0.6, "static", ["\nclass"], 7)
    assert "steps" not in sent
    page.fill("#set-threshold", "-1")
    page.click("#settings summary")
    before = len(script.app.state.asked)
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    assert page.locator("#settings").get_attribute("open") is not None  # what is wrong can be seen
    assert len(script.app.state.asked) == before


def test_a_link_shows_the_same(visit: Visit, script: Running) -> None:
    page = visit(script, "")
    page.fill("#prompt", "a & b\n  c=#ü")
    page.fill("#tokens", "9")
    page.fill("#seed", "5")
    page.select_option("#pace", "30")
    page.click("#settings summary")
    page.fill("#set-threshold", "0.5")
    page.locator("#prompt").evaluate("node => { node.focus(); node.setSelectionRange(2, 5); }")
    until(page, "location.hash.includes('gap=2-5') && location.hash.includes('threshold')")
    other = visit(script, page.url.partition("#")[2])
    assert other.input_value("#prompt") == "a & b\n  c=#ü"
    assert [other.input_value(f"#{name}") for name in ("tokens", "seed", "pace")] == ["9", "5", "30"]
    assert other.input_value("#set-threshold") == "0.5"
    assert other.evaluate("[prompt_.selectionStart, prompt_.selectionEnd]".replace("prompt_", "document.getElementById('prompt')")) == [2, 5]
    assert other.locator("#fill").is_enabled()
    bad = visit(script, "view=none&model=none&tokens=-4&seed=x&pace=7&gap=a&set.none=1&%%%")
    assert bad.input_value("#tokens") == "64"
    bad.fill("#prompt", "go")
    bad.click("#go")
    finished(bad)


def test_a_chat(visit: Visit, script: Running, real: Running) -> None:
    page = visit(script, "view=chat&pace=0")
    page.fill("#prompt", "hello")
    page.focus("#prompt")
    page.keyboard.press("Enter")
    finished(page)
    assert new_text(page) == "<b>one</b> two é!"
    page.keyboard.type("and now?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("please")
    page.keyboard.press("Enter")
    finished(page)
    assert script.app.state.asked[-1]["messages"] == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "<b>one</b> two é!"},
        {"role": "user", "content": "and now?\nplease"},
    ]
    assert page.locator(".turn p").all_inner_texts() == ["hello", "<b>one</b> two é!", "and now?\nplease", ""]
    shot(page, "chat")
    plain = visit(real, "view=chat")
    assert plain.locator("#chat-view").is_hidden()  # no chat template
    assert plain.get_attribute("#main", "data-view") == "complete"


PARSE = """async ({ text, size }) => {
  const { events } = await import(new URL("page/api.js", location.href).href);
  const bytes = new TextEncoder().encode(text);
  async function* pieces() { for (let i = 0; i < bytes.length; i += size) yield bytes.slice(i, i + size); }
  const found = [];
  for await (const one of events(pieces())) found.push(one);
  return found;
}"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_read_however_they_are_cut(visit: Visit, script: Running, end: str) -> None:
    lines = [": note", "event: x", 'data: {"a": "é😀"}', "", "", "data:one", "data: two", "", "id: 7", "data: [DONE]", "", "x"]
    page = visit(script)
    for size in (1, 2, 3, 7, 1000):
        found = page.evaluate(PARSE, {"text": end.join(lines), "size": size})
        assert found == ['{"a": "é😀"}', "one\ntwo", "[DONE]"], size
