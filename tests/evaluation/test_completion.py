"""Completions, infilling and the frontier: what is counted, against calculations by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from interlace.errors import SettingError
from interlace.evaluation import complete, frontier, infill
from interlace.evaluation.rates import rate_interval, ratio
from interlace.model import Model
from interlace.worlds.verifiers import InfillCase, Prompt, completion_parses

Make = Callable[..., Model]
PROMPTS = [Prompt("a", "abcdefgh", ""), Prompt("b", "a = (", ""), Prompt("c", "b(c)", "")]


def test_an_autoregressive_model_makes_one_token_per_forward(make: Make) -> None:
    found = complete(make("ar"), PROMPTS, length=12)
    assert [r.tokens for r in found.records] == [12, 12, 12]
    assert found.tokens_per_forward == 1.0
    assert found.tokens_per_second == pytest.approx(found.tokens / found.seconds)


def test_a_certain_model_makes_a_block_per_forward(make: Make) -> None:
    """Threshold 0 fixes all four tokens of a block at once, and the commits are fused."""
    model = make("sdar").with_(threshold=0.0)
    found = complete(model, [PROMPTS[0]], length=16)
    assert (found.tokens, found.forwards, found.tokens_per_forward) == (16, 4, 4.0)
    surest = complete(make("sdar").with_(threshold=1.0), PROMPTS, length=16)
    assert surest.tokens_per_forward == 1.0
    # prompts of 8, 5 and 4 characters: completions end with a whole block
    assert [r.tokens for r in surest.records] == [16, 19, 16]


def test_records_say_what_the_verifier_says(make: Make) -> None:
    found = complete(make("sdar"), PROMPTS, length=9, details=True)
    for prompt, record in zip(PROMPTS, found.records, strict=True):
        assert (record.name, record.prompt) == (prompt.name, prompt.text)
        assert record.parses == completion_parses(prompt.text, record.text)
        assert record.result.order is not None and len(record.result.order) == len(record.result.content)
    assert found.parse_rate == sum(r.parses for r in found.records) / 3
    low, high = found.parse_interval
    assert 0 <= low <= found.parse_rate <= high <= 1


def test_batches_change_nothing_but_the_time(make: Make) -> None:
    model = make("sdar")
    alone, together = (complete(model, PROMPTS, length=10, at_once=n) for n in (1, 3))
    assert alone.records == together.records


def test_the_speed_of_the_first_prompts_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock counts batches: two prompts alone take two; the third, in the batch behind them, counts no more."""
    ticks = iter(range(100))
    monkeypatch.setattr("interlace.evaluation.completion.time.perf_counter", lambda: next(ticks))
    found = complete(make("ar"), PROMPTS, length=12, at_once=3, alone=2)
    assert found.seconds == 2 and found.timed == 2 and found.tokens_per_second == 24 / 2
    assert complete(make("ar"), PROMPTS, length=12, at_once=3).records == found.records
    assert complete(make("ar"), PROMPTS, length=12, alone=9).timed == 3
    with pytest.raises(SettingError, match="alone -1"):
        complete(make("ar"), PROMPTS, length=12, alone=-1)


def test_a_stop_token_ends_a_row_and_counts(make: Make) -> None:
    free = [complete(make("ar", seed=seed), [PROMPTS[0]], length=8).records[0] for seed in range(20)]
    seed, ids = next((i, x) for i, r in enumerate(free) if (x := r.result.content.tolist())[2] not in x[:2])
    stopped = complete(make("ar", seed=seed, stop=(ids[2],)), [PROMPTS[0]], length=8).records[0]
    assert stopped.stopped and stopped.tokens == 3 and stopped.forwards == 3
    assert len(stopped.result.content) == 2


def test_nothing_to_complete(make: Make) -> None:
    found = complete(make("ar"), [], length=4)
    assert (found.count, found.parse_rate, found.tokens_per_forward) == (0, 0.0, 0.0)
    with pytest.raises(SettingError, match="length 0"):
        complete(make("ar"), PROMPTS, length=0)


@pytest.mark.parametrize("system", ["ar", "sdar"])
def test_infilling_knows_its_own_filling_again(make: Make, system: str) -> None:
    case = InfillCase("case", "abc = (", "defgh", ")\nab", "line")
    every = ((model, infill(model, [case])) for model in (make(system, seed=seed) for seed in range(50)))
    model, first = next((m, f) for m, f in every if len(m.encode(f.records[0].text)) == 5)  # no special tokens
    text = first.records[0].text
    assert first.records[0].tokens == 5 and first.sees == {"ar": "left side", "sdar": "last block"}[system]
    assert first.exact_match() == (text == "defgh")
    assert first.accuracy() == sum(a == b for a, b in zip(text, "defgh", strict=True)) / 5
    again = infill(model, [replace(case, middle=text), replace(case, middle=text, kind="body"), case])
    assert [r.exact for r in again.records] == [True, True, text == "defgh"]
    assert again.exact_match("body") == 1.0 and again.exact_interval("body")[1] == 1.0
    if system == "ar":
        assert text == model.text(model.complete("abc = (", 5).content) and again.tokens_per_forward == 1.0


def test_the_frontier_walks_the_thresholds(make: Make) -> None:
    model = make("sdar")
    points = frontier(model, PROMPTS, [], thresholds=(1.0, 0.0), length=8)
    assert [p.threshold for p in points] == [1.0, 0.0]
    assert points[0].tokens_per_forward < points[1].tokens_per_forward
    assert points[0].completions.settings["threshold"] == 1.0 and points[0].exact_match is None
    case = InfillCase("case", "abc = (", "defgh", ")\nab", "line")
    only = frontier(make("ar"), PROMPTS, [case], thresholds=(1.0, 0.0), length=8)
    assert [p.threshold for p in only] == [None] and only[0].exact_match is not None
    assert model.settings.threshold == 0.9  # the model itself keeps its settings


def test_intervals_by_hand() -> None:
    # Wilson 1927, 95%: 0 of 10 -> [0, 0.2775], 81 of 263 -> [0.2553, 0.3662] (Newcombe 1998, table I)
    assert rate_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert rate_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert rate_interval(0, 0) == (0.0, 1.0)
    mean, error = ratio([2.0, 2.0, 8.0], [1, 1, 2])
    assert mean == 3.0 and error == pytest.approx((6 * 3 / 2) ** 0.5 / 4)  # deviations -1, -1, 2
