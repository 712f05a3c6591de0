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
    page.shot("key")
    page.keyboard.press("Escape")
    page.wait_for_selector("#trouble:not([hidden])")
    page.click("#trouble .again")
    page.wait_for_selector("#ask[open]")
    page.fill("#secret", "wrong")
    page.keyboard.press("Enter")
    page.until("document.getElementById('secret').value === '' && document.getElementById('ask').open")
    page.fill("#secret", "secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-ready]")
    page.click("#go")
    page.finished()
    assert page.stat("tokens") == 4
    assert "secret" not in page.url
    assert page.evaluate("localStorage.length") == 0
