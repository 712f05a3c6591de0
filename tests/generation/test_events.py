"""The stream: what is yielded, when, and how rows are put together from it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch

from interlace.attention.patterns import Bidirectional, BlockCausal, Causal
from interlace.generation import OPEN, Event, collect
from interlace.layouts import Blocks
from interlace.processes import AbsorbingMask, FlowMatching, NextToken
from interlace.reveal import Dynamic, Static
from interlace.sampling import Sampler
from interlace.schedules import AllAtOnce, BlockByBlock, Diagonal, LevelByLevel, TokenByToken

from .conftest import MASK, feature_network, features, run, stream, text_network, tokens

DYNAMIC = AbsorbingMask(MASK, Dynamic(0.4), Sampler(1.0))
PROMPTS, LENGTHS, SEEDS = [tokens(5), [], tokens(8, 1), tokens(4, 2)], [9, 6, 3, 0], [1, 2, 3, 4]
PATHS: dict[str, dict[str, Any]] = {
    "blocks": {"process": DYNAMIC, "schedule": BlockByBlock(4), "pattern": BlockCausal()},
    "diagonal": {"process": DYNAMIC, "schedule": Diagonal(4, 3, 1), "pattern": BlockCausal()},
    "together": {"process": DYNAMIC, "schedule": Diagonal(4, 3, 0), "pattern": BlockCausal()},
    "levels": {"process": DYNAMIC, "schedule": LevelByLevel(3), "pattern": BlockCausal()},
    "full": {"process": AbsorbingMask(MASK, Static()), "schedule": AllAtOnce(3), "pattern": Bidirectional()},
}


def events_of(path: str, prompts: Any = PROMPTS, length: Any = LENGTHS, **options: Any) -> list[Event]:
    options = {"seed": SEEDS[: len(prompts)]} | PATHS[path] | options
    return list(stream(text_network(), prompts, length, **options))


def test_the_widest_forwards_of_a_row() -> None:
    """A token at a time: the prompt, then single ones; recomputed: one more every time; full: always the row."""
    causal: dict[str, Any] = {"process": NextToken(), "schedule": TokenByToken(), "pattern": Causal()}
    causal["layout"] = Blocks(1)
    found = {}
    for memory in ("exact", "none"):
        (row,) = collect(stream(text_network(), [tokens(5)], 4, memory=memory, **causal), [tokens(5)], 4)
        found[memory] = row.widest
        assert row.forwards == 4 and row.slots == {"exact": 8, "none": 5 + 6 + 7 + 8}[memory]
    assert found == {"exact": (5, 1), "none": (5, 8)}
    full = PATHS["full"] | {"layout": Blocks(12)}
    (row,) = collect(stream(text_network(), [tokens(5)], 7, **full), [tokens(5)], 7)
    assert row.widest == (12, 12) and row.slots == 12 * row.forwards


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("drafts", [False, True])
@pytest.mark.parametrize("stop", [(), tuple(range(0, 30, 4))], ids=["free", "stop"])
def test_every_row_has_one_last_event_and_it_comes_last(path: str, drafts: bool, stop: tuple[int, ...]) -> None:
    events = events_of(path, drafts=drafts, stop=stop)
    assert Counter(e.row for e in events if e.last) == Counter(range(4))
    for row in range(4):
        mine = [e for e in events if e.row == row]
        assert mine[-1].last and mine[-1].clean
        clean = [e.unit for e in mine if e.clean]
        assert len(clean) == len(set(clean)), "a unit becomes clean once"
        assert [e.forwards for e in mine] == sorted(e.forwards for e in mine)


@pytest.mark.parametrize("path", PATHS)
def test_drafts_fall_and_never_change_what_is_fixed(path: str) -> None:
    units: dict[tuple[int, int], list[Event]] = {}
    events = events_of(path, drafts=True)
    for event in events:
        units.setdefault((event.row, event.unit), []).append(event)
    drafts = 0
    for (row, unit), steps in units.items():
        if not len(steps[0].content):
            continue  # the row with nothing to generate
        assert [e.level for e in steps] == sorted((e.level for e in steps), reverse=True)
        assert [e.clean for e in steps] == [e.level == 0 for e in steps] and steps[-1].clean
        size = min(4, len(PROMPTS[row]) + LENGTHS[row] - 4 * unit)
        assert {(e.start, len(e.content)) for e in steps} == {(4 * unit, size)}
        for before, after in pairwise(steps):
            fixed = before.content != OPEN
            assert torch.equal(before.content[fixed], after.content[fixed])
            assert after.forwards > before.forwards
        assert not (steps[-1].content == OPEN).any()
        drafts += len(steps) - 1
    assert drafts > 3
    clean = [(e.row, e.unit, e.content.tolist()) for e in events if e.clean]
    assert clean == [(e.row, e.unit, e.content.tolist()) for e in events_of(path)]


def test_the_level_of_a_draft_is_the_share_still_masked() -> None:
    events = events_of("blocks", [[]], 4, process=AbsorbingMask(MASK, Static()), drafts=True)
    assert [e.level for e in events] == [0.75, 0.5, 0.25, 0.0]
    assert [(e.content == OPEN).sum().item() for e in events] == [3, 2, 1, 0]


def test_drafts_of_features_end_in_the_clean_unit() -> None:
    events = list(stream(feature_network(), [features(4)], 8, FlowMatching(), BlockByBlock(4), label=[1], drafts=True))
    assert [(e.unit, e.level, e.last) for e in events] == [
        (unit, level, unit == 2 and level == 0) for unit in (1, 2) for level in (0.75, 0.5, 0.25, 0.0)
    ]
    assert all(e.content.shape == (4, 3) for e in events)


@pytest.mark.parametrize("path", ["blocks", "full"])
def test_details_are_those_of_the_steps(path: str) -> None:
    """log_prob: log of the probability that the sampler saw; order: the step of the unit that fixed the token."""
    events = events_of(path, drafts=True, details=True)
    seen: dict[tuple[int, int], int] = {}
    before: dict[tuple[int, int], torch.Tensor] = {}
    for e in events:
        if not len(e.content):
            continue
        at = (e.row, e.unit)
        step = seen.setdefault(at, 0)
        given = torch.arange(e.start, e.start + len(e.content)) < len(PROMPTS[e.row])
        old = before.get(at, given)
        new = (e.content != OPEN) & ~old
        assert e.order is not None and e.log_prob is not None
        assert (e.order[new] == step).all() and (e.order[given] == -1).all()
        assert (e.log_prob[new] < 0).all() and (e.log_prob[given] == 0).all()
        assert (e.order[e.content == OPEN] == -1).all()
        before[at], seen[at] = e.content != OPEN, step + 1
    assert all(e.log_prob is None and e.order is None for e in events_of(path))


def test_log_probabilities_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose head always says the same: p = (1/2, 1/4, 1/8, 1/8) over four tokens, the mask aside."""
    network = text_network()
    logits = torch.full((32,), -1e9)
    logits[[4, 9, 2, 7]] = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    logits[MASK] = 5.0
    monkeypatch.setattr(network, "head", lambda hidden: logits.expand(*hidden.shape[:-1], -1).clone())
    (row,) = run(network, [[1, 2]], 6, AbsorbingMask(MASK, Static()), BlockByBlock(2))
    assert row.content.tolist() == [4] * 6
    assert row.log_prob is not None and row.order is not None
    torch.testing.assert_close(row.log_prob, torch.full((6,), 0.5).log())
    assert row.order.tolist() == [0, 0, 0, 0, 1, 1]  # ties to the left; two tokens a step


def test_a_row_is_its_events_put_together() -> None:
    for path in PATHS:
        events = events_of(path)
        rows = collect(iter(events), PROMPTS, LENGTHS)
        for number, row in enumerate(rows):
            whole = torch.tensor(PROMPTS[number] + [-7] * LENGTHS[number])
            for e in events:
                if e.row == number:
                    whole[e.start : e.start + len(e.content)] = e.content
            assert row.row.tolist() == whole.tolist()
            assert row.content.tolist() == whole[len(PROMPTS[number]) :].tolist()
            assert row.forwards == max(e.forwards for e in events if e.row == number)


def test_a_stop_token_waits_for_the_units_before_it() -> None:
    """All units at once: a later one may be finished first, and its stop token ends nothing that is still open."""
    (free,) = run(text_network(), [tokens(1)], 15, DYNAMIC, AllAtOnce(8), pattern=Bidirectional())
    for stop in sorted(set(free.content.tolist())):
        options = {"pattern": Bidirectional(), "stop": (stop,)}
        events = list(stream(text_network(), [tokens(1)], 15, DYNAMIC, AllAtOnce(8), **options))
        (row,) = collect(iter(events), [tokens(1)], 15, (stop,))
        assert row.content.tolist() == free.content.tolist()[: free.content.tolist().index(stop)]
        finished = {e.unit for e in events}
        assert set(range(1 + len(row.row) // 4)) <= finished


def test_a_stop_token_of_the_prompt_or_of_the_filling_ends_nothing() -> None:
    prompt = tokens(6)
    (free,) = run(text_network(), [prompt], 6, DYNAMIC, BlockByBlock(4))
    stop = [t for t in prompt if t not in free.content.tolist()]
    assert stop
    (row,) = run(text_network(), [prompt], 6, DYNAMIC, BlockByBlock(4), stop=stop)
    assert not row.stopped and row.content.tolist() == free.content.tolist()
    # the block behind the row's end is filled too, but not with tokens of the row
    for seed in range(50):
        prompt = tokens(6, seed)
        (longer,) = run(text_network(), [prompt], 6, DYNAMIC, BlockByBlock(4), layout=Blocks(12))
        stop = longer.content[2:].tolist()
        if not set(longer.content[:2].tolist()) & set(stop):
            break
    assert not set(longer.content[:2].tolist()) & set(stop)
    (short,) = run(text_network(), [prompt], 2, DYNAMIC, BlockByBlock(4), layout=Blocks(12), stop=stop)
    assert not short.stopped and short.content.tolist() == longer.content[:2].tolist()


def test_length_zero_is_the_prompt() -> None:
    events = events_of("blocks", [tokens(4), tokens(6, 1)], 0)
    assert [(e.row, e.last, e.clean, len(e.content), e.forwards) for e in events] == [
        (0, True, True, 0, 0),
        (1, True, True, 0, 0),
    ]


def test_next_token_streams_token_by_token() -> None:
    options = {"layout": Blocks(1), "pattern": Causal()}
    events = list(stream(text_network(), [tokens(3), tokens(5, 1)], [4, 2], NextToken(), TokenByToken(), **options))
    mine = [(e.start, e.forwards, e.last) for e in events if e.row == 0]
    assert mine == [(3, 1, False), (4, 2, False), (5, 3, False), (6, 4, True)]
    assert [e.start for e in events if e.row == 1] == [5, 6]


def test_the_stream_is_lazy_and_its_checks_are_not() -> None:
    calls = []
    network = text_network()
    forward = network.forward

    def counted(*args: Any, **told: Any) -> Any:
        calls.append(1)
        return forward(*args, **told)

    network.forward = counted  # type: ignore[method-assign]
    try:
        events = stream(network, [tokens(4)], 12, DYNAMIC, BlockByBlock(4))
        assert not calls
        first = next(events)
        assert first.unit == 1 and len(calls) == first.forwards < 12
    finally:
        del network.forward


def test_a_network_that_generated_can_still_be_trained() -> None:
    """Nothing that generation leaves behind (a table of positions) keeps a gradient from flowing."""
    from interlace.nn import Transformer

    network = Transformer(text_network().config).initialise(torch.Generator().manual_seed(0), 0.3)
    (row,) = run(network, [tokens(4)], 4, DYNAMIC, BlockByBlock(2))
    ids = row.row[None]
    network.head(network(ids, torch.arange(8)[None])).logsumexp(-1).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
