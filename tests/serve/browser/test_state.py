"""What is sent, what a link holds, and that text stays text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Visit = Callable[..., Any]


def test_what_a_model_writes_is_text_and_only_text(visit: Visit, script: Any) -> None:
    page = visit(script, "prompt=go&pace=0", failing="TrustedHTML")
    page.click("#go")
    page.finished()
    assert page.written() == "<b>one</b> two é!"  # whole characters; what lies behind the end is no part of it
    assert page.locator(".text b, .panel b").count() == 0
    assert page.stat("tokens") == 5
    page.focus("#at")
    page.keyboard.press("Home")
    assert page.locator(".text .masked").count() == 2
    page.keyboard.press("ArrowRight")
    tones = page.locator(".text .token").evaluate_all("nodes => nodes.map(node => node.classList[1])")
    assert tones == ["draft", "masked"]
    page.keyboard.press("End")
    assert page.written() == "<b>one</b> two é!"
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<i>x</i>')")


def test_settings_come_from_the_model_and_only_changes_are_sent(visit: Visit, script: Any) -> None:
    page = visit(script, "prompt=go&pace=0")
    page.click("#settings summary")
    names = page.locator("#panel [name]").evaluate_all("nodes => nodes.map(node => node.name)")
    assert names == ["threshold", "reveal", "steps", "stop"]
    page.click("#go")
    page.finished()
    plain = {"model": "small", "prompt": "go", "max_tokens": 64, "seed": 0, "stream": True, "drafts": True}
    assert script.app.state.asked[-1] == plain | {"stream_options": {"include_usage": True}}
    page.fill("#set-threshold", "0.6")
    page.select_option("#set-reveal", "static")
    page.fill("#set-stop", "\\nclass")
    page.fill("#seed", "7")
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    page.finished()
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


def test_the_focus_comes_back_to_the_button_that_was_pressed(visit: Visit, script: Any) -> None:
    page = visit(script, "prompt=go&pace=0")
    focus = "document.activeElement.id"
    for _ in range(2):
        page.focus("#go")
        page.keyboard.press("Enter")
        page.finished()
        page.until("!document.getElementById('go').disabled")
        assert page.evaluate(focus) == "go"
    page.fill("#prompt", "wait")
    page.keyboard.press("Control+Enter")
    page.until("!document.getElementById('stop').disabled")
    assert page.evaluate(focus) == "prompt"
    page.focus("#stop")
    page.keyboard.press("Enter")
    page.until("!document.getElementById('go').disabled")
    assert page.evaluate(focus) == "go"
    page.keyboard.press("Enter")
    page.until("!document.getElementById('stop').disabled")
    page.focus("#seed")  # gone elsewhere
    page.keyboard.press("Escape")
    page.until("!document.getElementById('go').disabled")
    assert page.evaluate(focus) == "seed"


def test_a_link_shows_the_same(visit: Visit, script: Any) -> None:
    page = visit(script, "")
    page.fill("#prompt", "a & b\n  c=#ü")
    page.fill("#tokens", "9")
    page.fill("#seed", "5")
    page.select_option("#pace", "30")
    page.click("#settings summary")
    page.fill("#set-threshold", "0.5")
    page.locator("#prompt").evaluate("node => { node.focus(); node.setSelectionRange(2, 5); }")
    page.until("location.hash.includes('gap=2-5') && location.hash.includes('threshold')")
    other = visit(script, page.url.partition("#")[2])
    assert other.input_value("#prompt") == "a & b\n  c=#ü"
    assert [other.input_value(f"#{name}") for name in ("tokens", "seed", "pace")] == ["9", "5", "30"]
    assert other.input_value("#set-threshold") == "0.5"
    assert other.locator("#prompt").evaluate("node => [node.selectionStart, node.selectionEnd]") == [2, 5]
    assert other.locator("#fill").is_enabled()
    bad = visit(script, "view=none&model=none&tokens=-4&seed=x&pace=7&gap=a&set.none=1&%%%")
    assert bad.input_value("#tokens") == "64"
    bad.fill("#prompt", "go")
    bad.click("#go")
    bad.finished()


PARSE = """async ({ text, size }) => {
  const { events } = await import(new URL("page/api.js", location.href).href);
  const bytes = new TextEncoder().encode(text);
  async function* pieces() { for (let i = 0; i < bytes.length; i += size) yield bytes.slice(i, i + size); }
  const found = [];
  for await (const one of events(pieces())) found.push(one);
  return found;
}"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_read_however_they_are_cut(visit: Visit, script: Any, end: str) -> None:
    first = [": note", "event: x", 'data: {"a": "é😀"}', "", ""]
    lines = [*first, "data:one", "data: two", "", "id: 7", "data: [DONE]", "", "x"]
    page = visit(script)
    for size in (1, 2, 3, 7, 1000):
        found = page.evaluate(PARSE, {"text": end.join(lines), "size": size})
        assert found == ['{"a": "é😀"}', "one\ntwo", "[DONE]"], size
