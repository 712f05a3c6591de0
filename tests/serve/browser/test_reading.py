"""Whoever reads: with a keyboard, in the dark, on a phone, without motion, by ear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PHONE = {"width": 375, "height": 812}
Visit = Callable[..., Any]


def test_the_keyboard_is_enough(visit: Visit, real: Any) -> None:
    page = visit(real, "pace=0&model=twin&tokens=8")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type("def load(path):    return None")
    for _ in range(15):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+Enter")
    page.finished()
    assert page.stat("tokens") == 8
    page.keyboard.press("Control+Shift+Enter")
    page.until("document.querySelector('.text').textContent.endsWith('    return None')")
    page.finished()
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
    page.shot("keys")
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
    if (!own || !node.checkVisibility({ visibilityProperty: true })) continue;
    if (node.closest(":disabled, .quiet, .skip, dialog:not([open]), template")) continue;
    const stack = [];
    for (let at = node; at; at = at.parentElement) stack.push(rgba(getComputedStyle(at).backgroundColor));
    const back = stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
    const ink = over(rgba(getComputedStyle(node).color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${node.className || node.tagName} ${node.textContent.trim().slice(0, 20)}: ${ratio}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("tone", ["light", "dark"])
def test_light_and_dark_can_be_read(visit: Visit, script: Any, tone: str) -> None:
    page = visit(script, "pace=0&prompt=go", color_scheme=tone)
    page.click("#go")
    page.finished()
    page.click("#settings summary")
    page.focus("#at")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")  # a draft is seen
    page.wait_for_selector(".text .draft")
    page.wait_for_timeout(900)  # its flash is over
    assert page.evaluate(CONTRAST) == []
    page.shot(f"settings-{tone}")
    ground = "Number(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])"
    assert (page.evaluate(ground) > 128) == (tone == "light")
    page.click("#theme")
    if tone == "light":
        page.click("#theme")
    assert (page.evaluate(ground) > 128) == (tone == "dark")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert (page.evaluate(ground) > 128) == (tone == "dark")


def test_everything_has_a_name(visit: Visit, script: Any) -> None:
    page = visit(script, "pace=0&prompt=go")
    page.click("#go")
    page.finished()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, svg[tabindex], [role=group]")]
          .filter(node => !node.getAttribute("aria-label") && !node.labels?.length &&
            !(node.tagName === "BUTTON" && node.textContent.trim()))
          .map(node => node.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    tree = page.locator("body").aria_snapshot()
    for landmark in ("banner", "main", 'form "Prompt and settings"', 'region "Result"', "status"):
        assert f"- {landmark}" in tree, landmark


@pytest.mark.parametrize("view", ["complete", "compare"])
def test_a_phone_needs_no_scrolling_sideways(visit: Visit, real: Any, view: str) -> None:
    options = {"viewport": PHONE, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
    page = visit(real, f"view={view}&model=twin&pace=0&tokens=24&prompt=x+=+{'long' * 40}", **options)
    page.tap("#settings summary")
    page.tap("#go")
    page.finished()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    beyond = page.evaluate(
        f"""() => [...document.querySelectorAll("main *, header *")]
          .filter(node => node.checkVisibility() && !node.closest("svg, .quiet"))
          .filter(node => node.getBoundingClientRect().right > {PHONE["width"]} + 0.5).map(node => node.outerHTML)"""
    )
    assert beyond == []
    page.locator(".text .token").nth(1).tap()
    assert "confidence" in page.inner_text("#tip")
    page.shot(f"phone-{view}")


def test_motion_is_left_out_where_it_is_not_wanted(visit: Visit, script: Any) -> None:
    page = visit(script, "prompt=go", reduced_motion="reduce")
    assert page.input_value("#pace") == "0"
    page.evaluate("addEventListener('animationstart', () => { window.moved = true; })")
    page.click("#go")
    page.finished()
    assert not page.evaluate("window.moved")
    moving = visit(script, "prompt=go&pace=4", reduced_motion="no-preference")
    moving.evaluate("addEventListener('animationstart', () => { window.moved = true; })")
    moving.click("#go")
    moving.until("window.moved")
