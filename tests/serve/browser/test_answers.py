"""What comes: live units, confidence, two models, gaps, chats."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

Visit = Callable[..., Any]


WATCH = """() => {
  window.tones = new Map();
  const tone = node => ["masked", "draft"].find(name => node.classList.contains(name)) ?? "committed";
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


def test_tokens_are_masked_then_drafted_then_committed(visit: Visit, real: Any) -> None:
    page = visit(real, "pace=12&tokens=32&model=twin")
    page.shot("empty")
    page.click("#examples >> text=A class")
    page.evaluate(WATCH)
    page.click("#go")
    page.finished()
    histories = page.evaluate("[...window.tones.values()]")
    order = ["masked", "draft", "committed"]
    assert len(histories) == 32
    assert order in histories
    for seen in histories:
        assert seen == [tone for tone in order if tone in seen]  # never back
        assert seen[-1] == "committed"
    prompt = page.input_value("#prompt")
    assert page.written() == real.text(model="twin", prompt=prompt, max_tokens=32, seed=0)
    assert page.stat("tokens") == 32
    forwards = page.stat("forwards")
    assert page.stat("ratio") == pytest.approx(32 / forwards, abs=0.006)
    assert page.stat("rate") > 0
    assert page.locator(".cells rect").count() >= forwards
    assert page.locator("#where").inner_text() == f"{forwards:.0f} / {forwards:.0f}"
    page.focus("#at")
    page.keyboard.press("Home")
    while not page.locator(".text .draft").count() or not page.locator(".text .masked").count():
        page.keyboard.press("ArrowRight")  # back to where all three tones are seen
    page.shot("live")


def test_hover_and_focus_show_the_confidence(visit: Visit, real: Any) -> None:
    page = visit(real, "pace=0&tokens=12&model=twin&prompt=class+Point:")
    page.click("#go")
    page.finished()
    said: list[tuple[str, float]] = []
    for number in range(3):
        token = page.locator(".text .token").nth(number)
        token.hover()
        share = re.search(r"confidence ([\d.]+) %", page.inner_text("#tip"))
        assert share is not None
        said.append((page.inner_text("#tip strong"), float(share[1])))
    choice = real.completion(model="twin", prompt="class Point:", max_tokens=12, seed=0, logprobs=0)
    for (_, percent), log_prob in zip(said, choice["logprobs"]["token_logprobs"], strict=False):
        assert percent == pytest.approx(100 * math.exp(log_prob), abs=0.51)
    page.shot("confidence")
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


def test_two_models_side_by_side(visit: Visit, real: Any) -> None:
    prompt = "class Point:\n    def __init__(self, x, y):"
    state = f"view=compare&model=twin&with=base&tokens=48&pace=0&prompt={quote(prompt)}"
    page = visit(real, state, color_scheme="dark")
    page.click("#go")
    page.finished()
    for lane, name in enumerate(("twin", "base")):
        assert page.locator(".lane h2").nth(lane).inner_text() == name
        assert page.written(lane) == real.text(model=name, prompt=prompt, max_tokens=48, seed=0)
        assert page.stat("tokens", lane) == 48
    assert page.stat("ratio", 1) == 1
    assert page.stat("ratio", 0) > 1
    box = [page.locator(".lane").nth(lane).bounding_box() for lane in (0, 1)]
    assert box[0]["y"] == box[1]["y"] and box[0]["x"] + box[0]["width"] <= box[1]["x"]
    scale = page.locator(".path > svg").evaluate_all("nodes => nodes.map(node => node.getAttribute('viewBox'))")
    assert scale[0] == scale[1]  # the slopes can be compared
    assert "twin fixes" in page.inner_text("#verdict")
    assert page.locator("#verdict button").count() == 0  # nothing to better
    page.shot("compare-dark")


def test_the_examples_show_a_gain_at_the_defaults(visit: Visit, real: Any) -> None:
    page = visit(real, "pace=0")
    names = page.locator("#examples button").all_inner_texts()
    assert page.input_value("#prompt") != "" and names[-1] == "A gap"
    for name in ("", *names[:-1]):  # the first is what stands there from the beginning
        if name:
            page.click(f"#examples >> text={name}")
        page.click("#go")
        page.finished()
        assert page.stat("tokens") == 64 and page.stat("ratio") > 1.4, name
    page.click("#examples >> text=A gap")
    page.click("#fill")
    page.finished()
    assert page.stat("tokens") == float(page.input_value("#hole")) and page.stat("ratio") > 1.2


def test_a_comparison_without_a_gain_offers_a_lower_threshold(visit: Visit, real: Any) -> None:
    prompt = "def mean(values):"
    page = visit(real, f"view=compare&model=twin&with=base&tokens=32&pace=0&prompt={quote(prompt)}")
    page.click("#go")
    page.finished()
    before = page.stat("ratio", 0)
    assert before < 1.2 and "threshold of 0.9" in page.inner_text("#verdict")
    page.shot("lower")
    page.click("#verdict button")
    page.until("document.getElementById('verdict').hidden")
    page.until("!document.getElementById('verdict').hidden")
    assert page.input_value("#set-threshold") == "0.6" and "set.threshold=0.6" in page.url
    assert page.stat("ratio", 0) > before
    assert page.written() == real.text(model="twin", prompt=prompt, max_tokens=32, seed=0, threshold=0.6)
    assert page.locator("#verdict button").count() == 0
    page.click("#settings summary")
    page.fill("#set-threshold", "")
    page.select_option("#set-reveal", "static")  # knows no threshold
    page.click("#go")
    page.until("document.getElementById('verdict').hidden")
    page.until("!document.getElementById('verdict').hidden")
    assert page.stat("ratio", 0) < 1.2 and page.locator("#verdict button").count() == 0


def test_a_selected_gap_is_filled_in_its_place(visit: Visit, real: Any) -> None:
    page = visit(real, "pace=0&model=twin")
    assert page.locator("#fill").is_disabled()
    page.click("#examples >> text=A gap")
    before, after = page.input_value("#prompt").split("...")
    assert page.inner_text("#gap") == "The gap takes the place of ..."
    page.click("#fill")
    page.finished()
    filled = page.written()
    length = int(page.input_value("#hole"))
    assert filled == real.text(model="twin", prompt=before, suffix=after, max_tokens=length, seed=0)
    assert page.locator(".text").evaluate("node => node.textContent") == before + filled + after
    page.shot("gap")
    page.click(".keep")
    assert page.input_value("#prompt") == before + filled + after
    page.select_option("#model-a", "base")
    assert page.locator("#fill").is_disabled()
    assert page.inner_text("#gap") == "base cannot fill a gap; twin can."


def test_stop_ends_the_request_and_keeps_what_has_come(visit: Visit, real: Any) -> None:
    page = visit(real, "pace=0&model=base&tokens=1900&prompt=import+os")
    page.click("#go")
    page.wait_for_selector(".text .token >> nth=3", state="attached")
    page.click("#stop")
    page.finished()
    assert page.inner_text("#status").startswith("Stopped")
    assert 4 <= page.stat("tokens") < 1900
    assert page.locator("#go").is_enabled() and page.locator("#stop").is_disabled()
    for _ in range(100):
        if not real.app.state.desk.active:
            break
        page.wait_for_timeout(50)
    assert real.app.state.desk.active == 0
    page.fill("#tokens", "4")
    page.click("#go")
    page.finished()
    page.until("document.querySelector('[data-stat=tokens]').textContent === '4'")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("model", ["twin", "base"])
def test_characters_that_are_split_over_units_are_whole_in_the_end(
    visit: Visit, random: Any, model: str, seed: int
) -> None:
    page = visit(random, f"pace=0&model={model}&prompt=def&tokens=60&seed={seed}&set.temperature=1")
    page.click("#go")
    page.finished()
    said = random.text(model=model, prompt="def", max_tokens=60, seed=seed, temperature=1.0)
    assert not said.isascii()
    assert page.written() == said


def test_a_lane_is_called_after_the_system_that_is_chosen(visit: Visit, random: Any) -> None:
    page = visit(random, "pace=0&model=twin&prompt=a+b+c&tokens=8&gap=2-3&set.system=llada")
    assert page.inner_text(".kind") == "LLaDA" and page.locator("#fill").is_enabled()
    page.click("#settings summary")
    page.select_option("#set-system", "ar")
    assert page.locator("#fill").is_disabled()
    assert page.inner_text("#gap") == "twin as Autoregression cannot fill a gap."
    page.click("#go")
    page.finished()
    assert page.inner_text(".kind") == "Autoregression" and page.stat("ratio") == 1
    page.click("#reset")
    page.evaluate("document.getElementById('prompt').setSelectionRange(2, 3)")
    page.until("!document.getElementById('fill').disabled")
    page.click("#fill")
    page.finished()
    assert page.inner_text(".kind") == "SDAR, units of 4"


def test_a_character_is_whole_as_soon_as_its_bytes_are_known_in_whichever_order(visit: Visit, script: Any) -> None:
    page = visit(script, "pace=0&prompt=apart")
    page.click("#go")
    page.finished()
    assert page.written() == "aé€!"
    page.focus("#at")
    page.keyboard.press("Home")
    seen = []
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        seen.append(page.written())
    assert seen == ["\ufffd\ufffd", "\ufffd€", "a\ufffd€", "a\ufffd€!", "aé€!"]  # the sign: of what is not known yet
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.locator(".text").focus()
    names = []
    for _ in range(2):
        page.keyboard.press("ArrowRight")
        names.append(page.inner_text("#tip strong"))
    assert names == ["\ufffd", "\ufffd"]
    page.locator("#at").press("End")
    page.locator(".text").focus()
    page.keyboard.press("Home")
    names = [page.inner_text("#tip strong")]
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        names.append(page.inner_text("#tip strong"))
    assert names == ["a", r"\xc3", "é", r"\x82", "€", "!"]


def test_what_stands_behind_a_stop_goes_although_it_came_first(visit: Visit, script: Any) -> None:
    page = visit(script, "pace=0&prompt=stopped")
    page.click("#go")
    page.finished()
    assert page.written() == "\ufffdb" and page.stat("tokens") == 2


def test_what_came_out_of_order_stays_when_an_answer_breaks_off(visit: Visit, script: Any) -> None:
    page = visit(script, "pace=0&prompt=half")
    page.click("#go")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.written() == "abyz" and page.stat("tokens") == 4


@pytest.mark.parametrize("system", ["llada", "dream", "eoser-ass-cjgrpo", "wedlm"])
def test_characters_are_whole_in_the_end_where_units_become_clean_in_any_order(
    visit: Visit, random: Any, system: str
) -> None:
    for seed in (1, 2):
        more = f"seed={seed}&set.temperature=1&set.system={system}"
        page = visit(random, f"pace=0&model=twin&prompt=def&tokens=60&{more}")
        page.click("#go")
        page.finished()
        said = random.text(model="twin", prompt="def", max_tokens=60, seed=seed, temperature=1.0, system=system)
        assert not said.isascii() and page.written() == said
        starts = page.evaluate("[...document.querySelectorAll('.text .unit')].map(node => node.start)")
        assert starts == sorted(starts)


def test_a_chat_with_a_template(visit: Visit, random: Any) -> None:
    page = visit(random, "view=chat&pace=0&tokens=12&set.temperature=1")
    assert page.input_value("#model-a") == "twin"  # the one that has a template
    page.fill("#prompt", "hello")
    page.click("#go")
    page.finished()
    body = {"model": "twin", "max_tokens": 12, "seed": 0, "temperature": 1.0}
    assert page.written() == random.says(messages=[{"role": "user", "content": "hello"}], **body)


def test_a_chat(visit: Visit, script: Any, real: Any) -> None:
    page = visit(script, "view=chat&pace=0")
    page.fill("#prompt", "hello")
    page.focus("#prompt")
    page.keyboard.press("Enter")
    page.finished()
    assert page.written() == "<b>one</b> two é!"
    page.keyboard.type("and now?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("please")
    page.keyboard.press("Enter")
    page.finished()
    assert script.app.state.asked[-1]["messages"] == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "<b>one</b> two é!"},
        {"role": "user", "content": "and now?\nplease"},
    ]
    assert page.locator(".turn p").all_inner_texts() == ["hello", "<b>one</b> two é!", "and now?\nplease", ""]
    assert page.inner_text("#about") == ""  # it has a template
    page.shot("chat")


def test_a_chat_without_a_template_joins_the_texts_and_says_so(visit: Visit, real: Any) -> None:
    page = visit(real, "model=twin&pace=0&tokens=24")
    page.check("input[value=chat]", force=True)
    assert "twin has no chat template: the texts are simply joined" in page.inner_text("#about")
    first, then = "class Point:\n    def __init__(self, x, y):", "def distance(a, b):"
    page.fill("#prompt", first)
    page.click("#go")
    page.finished()
    body = {"model": "twin", "max_tokens": 24, "seed": 0}
    said = real.text(prompt=first, **body)
    assert page.written() == said != ""
    page.fill("#prompt", then)
    page.click("#go")
    page.until("document.querySelectorAll('.turn').length === 4")
    page.finished()
    assert page.written() == real.text(prompt="\n\n".join([first, said, then]), **body)
    page.shot("chat-plain")
    page.check("input[value=complete]", force=True)
    assert page.inner_text("#about") == ""


def test_a_model_that_takes_no_conversations_offers_no_chat(visit: Visit, mute: Any) -> None:
    page = visit(mute, "view=chat")
    assert page.locator("#chat-view").is_hidden()
    assert page.get_attribute("#main", "data-view") == "complete"
