"""What goes wrong is said in plain words, with what helps; nothing that has come is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Visit = Callable[..., Any]


def test_a_refusal_is_shown_in_plain_words_with_a_remedy(visit: Visit, real: Any) -> None:
    page = visit(real, "model=twin&prompt=x&tokens=4&set.temperature=3&pace=0", failing="400")
    page.click("#go")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "emperature" in page.inner_text("#trouble .what")
    assert page.inner_text("#trouble .remedy") != ""
    assert page.locator("#go").is_enabled()
    page.shot("refused")
    page.click("#settings summary")
    page.click("#reset")
    page.click("#trouble .again")
    page.finished()
    assert page.locator("#trouble").is_hidden()


def test_a_server_that_dies_in_the_middle_keeps_what_has_come(visit: Visit) -> None:
    """Nothing ends the stream: the connection is cut."""
    from .conftest import Running, scripted

    server = Running(scripted())
    page = visit(server, "prompt=wait&pace=0", failing="ERR_INCOMPLETE_CHUNKED_ENCODING")
    page.click("#go")
    page.until("document.querySelector('.lane .token')?.textContent === '<b>one</b>'")
    server.stop()
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble .what") == "The answer broke off before its end."
    assert page.written() == "<b>one</b> two" and page.locator("#go").is_enabled()


def test_what_is_at_work_is_said_no_longer_once_it_failed_or_was_cleared(visit: Visit, script: Any, real: Any) -> None:
    page = visit(real, "model=twin&prompt=x&tokens=9999&pace=0", failing="400")
    page.click("#go")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble .what").endswith("9999 new ones are more.")
    assert page.inner_text("#trouble .remedy") == "Shorten the prompt, or ask for fewer tokens."
    assert page.locator("#status").text_content() == ""
    page = visit(script, "prompt=wait&pace=0")
    page.click("#go")
    page.until("document.getElementById('status').textContent === 'small at work'")
    page.check("input[value=compare]", force=True)
    page.until("!document.getElementById('go').disabled")
    assert page.locator("#status").text_content() == ""


def test_nothing_is_cut_off_on_the_smallest_phone(visit: Visit, real: Any) -> None:
    page = visit(real, "model=twin&prompt=def+f(&tokens=8&pace=0", viewport={"width": 320, "height": 640})
    page.click("#go")
    page.finished()
    assert page.evaluate("[...document.querySelectorAll('.stats dt')].every(one => one.scrollWidth <= one.clientWidth)")


@pytest.mark.parametrize(
    ("word", "what"), [("fail", "The model gave no number."), ("break", "The answer broke off before its end.")]
)
def test_a_stream_that_fails_keeps_what_has_come(visit: Visit, script: Any, word: str, what: str) -> None:
    page = visit(script, f"prompt={word}&pace=0")
    page.click("#go")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble .what") == what
    assert page.inner_text("#trouble .remedy") in ("Ask again.", "What has come is kept. Try again for the rest.")
    page.wait_for_selector(".text .draft")
    assert page.locator("#go").is_enabled()


def test_a_server_that_is_gone(visit: Visit, script: Any) -> None:
    page = visit(script, "prompt=x&pace=0", failing="Failed to load resource")
    page.context.route("**/v1/completions", lambda route: route.abort())
    page.click("#go")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble .what") == "The server does not answer."
    assert "interlace serve" in page.inner_text("#trouble .remedy")
    page.context.unroute("**/v1/completions")
    page.click("#trouble .again")
    page.finished()


def test_a_key_is_asked_for_and_kept_out_of_the_address(visit: Visit, bundled: dict[str, Any]) -> None:
    page = visit(bundled["locked"], "pace=0&tokens=4&prompt=x", failing="401", ready=False)
    page.wait_for_selector("#ask[open]")
    assert page.locator("#wrong").is_hidden()
    page.shot("key")
    page.keyboard.press("Escape")
    page.wait_for_selector("#trouble:not([hidden])")
    page.click("#trouble .again")
    page.wait_for_selector("#ask[open]")
    page.fill("#secret", "wrong")
    page.keyboard.press("Enter")
    page.until("document.getElementById('secret').value === '' && document.getElementById('ask').open")
    assert page.inner_text("#wrong") == "The server does not take the key that was entered."
    page.fill("#secret", "secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-ready]")
    page.click("#go")
    page.finished()
    assert page.stat("tokens") == 4
    assert "secret" not in page.url
    assert page.evaluate("localStorage.length") == 0
