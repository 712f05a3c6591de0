"""Traces: which forward fixed which token, against the loop's own record."""

from __future__ import annotations

import io
import itertools
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from interlace.model import Model, load
from interlace.report.html import traced
from interlace.report.terminal import Adapting, Terminal
from interlace.report.trace import Token, Trace, trace

PROMPT = "def width_1(first, second=2):"


@pytest.fixture(scope="module", params=["base", "twin"])
def model(request: pytest.FixtureRequest, models: tuple[Path, Path]) -> Model:
    return load(models[request.param == "twin"], threshold=0.02)


def test_the_last_trace_is_the_completion(model: Model) -> None:
    steps = list(trace(model, PROMPT, 12))
    last = steps[-1]
    length = len(last.tokens)
    whole = model.complete(PROMPT, length, details=True)
    assert [t.id for t in last.tokens] == whole.content.tolist()
    assert last.forwards == whole.forwards and last.text == model.text(whole.content)
    assert whole.order is not None and [t.step - 1 for t in last.tokens] == whole.order.tolist()
    assert (last.start + length) % model.parts.layout.size == 0 and 12 <= length < 12 + model.parts.layout.size


def test_a_trace_grows_by_what_its_forward_fixed(model: Model) -> None:
    steps = list(trace(model, PROMPT, 12))
    assert [s.forwards for s in steps] == list(range(1, len(steps) + 1))
    for before, after in itertools.pairwise(steps):
        for place, token in enumerate(before.tokens):
            if not token.open:
                assert after.tokens[place].id == token.id
        fresh = [
            t for i, t in enumerate(after.tokens) if not t.open and (i >= len(before.tokens) or before.tokens[i].open)
        ]
        assert fresh and all(t.forward == after.forwards for t in fresh)


def test_a_trace_ends_before_a_stop_token(model: Model) -> None:
    from dataclasses import replace

    ids = list(trace(model, PROMPT, 12))[-1].tokens
    stop = ids[len(ids) // 2].id
    stopping = Model(replace(model.checkpoint, stop_token_ids=(stop,)), model.system, model.settings)
    ended = list(trace(stopping, PROMPT, 12))[-1].tokens
    assert len(ended) == next(i for i, t in enumerate(ids) if t.id == stop)


class Spans(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "span":
            self.found.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_trace_as_html_has_the_text_and_a_colour_per_step() -> None:
    tokens = (Token(5, "<b>", 1, 1, -0.1), Token(6, " &", 2, 2, -1.0), Token(7, "\n  x", 2, 12, 0.0))
    spans = Spans()
    spans.feed(traced(Trace("if a<b:", tokens, 2, start=3, block_size=4)))
    assert spans.text == "if a<b:<b> &\n  x"
    given, *found = spans.found
    assert given["class"] == "given" and [s["class"] for s in found] == ["t f1", "t f2", "t f8"]
    assert [s["data-f"] for s in found] == ["1", "2", "2"] and [s["data-b"] for s in found] == ["0", "1", "1"]
    assert "probability 90%" in str(found[0]["title"])
    plain = Spans()
    plain.feed(traced(Trace("x", tokens, 3, start=3, block_size=1)))
    assert {s["class"] for s in plain.found[1:]} == {"t"}


@pytest.mark.parametrize("live", [True, False])
def test_models_race_to_their_ends(models: tuple[Path, Path], live: bool) -> None:
    screen = io.StringIO()
    terminal = Terminal(Console(file=screen, width=100, force_terminal=live))
    both = [load(path, threshold=0.02) for path in models]
    finished = terminal.race(["base", "twin"], [trace(m, PROMPT, 8) for m in both])
    assert [t.text for t in finished] == [list(trace(m, PROMPT, 8))[-1].text for m in both]
    assert ("\x1b" in screen.getvalue()) == live and "tokens per forward" in screen.getvalue()


@pytest.mark.parametrize("live", [True, False])
def test_the_adaptation_is_shown_while_it_runs(live: bool) -> None:
    screen = io.StringIO()
    terminal = Terminal(Console(file=screen, width=100, force_terminal=live))
    with Adapting(terminal, 10, {"bound": "held-out bound"}) as view:
        view.start({"bound": 7.25})
        for step in range(1, 4):
            view.log({"step": step, "loss": 6.5, "tokens_per_second": 1234.0, "learning_rate": 1e-3})
        view.log({"step": 4, "loss": 5.125, "tokens_per_second": 1234.0, "bound": 5.5})
    printed = screen.getvalue()
    assert "5.125" in printed and "1,234 tokens/s" in printed and "5.5" in printed
    assert live or printed.count("\n") == 2  # two measurements, two lines
