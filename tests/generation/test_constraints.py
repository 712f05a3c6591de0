"""Generation under a constraint: the text matches on every path that can hold it, and others are refused."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace.attention.patterns import Bidirectional, BlockCausal, Causal
from interlace.constraints import OPEN, Automaton, compiled, lifted
from interlace.errors import SettingError
from interlace.generation import Result, collect, generate
from interlace.layouts import Blocks
from interlace.processes import AbsorbingMask, FlowMatching, NextToken
from interlace.reveal import Dynamic, EntropyBounded, Leading, Sequential, Static, Threshold
from interlace.sampling import Sampler
from interlace.schedules import AllAtOnce, BehindPrompt, BlockByBlock, Diagonal, LevelByLevel, Seeded, TokenByToken
from interlace.systems import find

from .conftest import MASK, VOCABULARY, feature_network, features, run, same, stream, text_network, tokens

STOP = 30
# what the tokens spell: letters, runs of them, pieces of JSON, halves of characters
WORDS = [
    b"a", b"b", b"c", b"ab", b"bc", b"abc", b"aa", b"1", b"2", b"12", b"{", b"}", b'"', b'{"', b'":', b": ", b":", b",",
    b", ", b" ", b'"a', b'a"', b"\xc3", b"\xa9", "é".encode(), b"[", b"]", b"-", b"ba", b"c1", b"", b"",
]  # fmt: skip
PATTERNS = [
    "(abc)+",
    "[a-c]{5}1?",
    "é{2,4}",
    r"\[(-?[12]+(, ?-?[12]+)*)?\]",
    r'\{"a": ?[12]{1,3}(, ?"b": ?"[abc]*")?\}',
    "(a|b)*c(a|b)",
    "",
    "a.*",
]
SYSTEMS = [
    "ar", "sdar", "fast-dllm-v2", "efficient-dlm", "wedlm", "tidar", "llada", "dream", "diffusion-gemma",
    "eoser-ass-cjgrpo",
]  # fmt: skip


@cache
def held(pattern: str) -> Automaton:
    return lifted(compiled(pattern), WORDS, f"the pattern {pattern!r}")


def parts(system: str, **settings: Any) -> dict[str, Any]:
    found = find(system)
    chosen = found.settings.but(mask_id=MASK, **{"block_size": 1 if system == "ar" else 4} | settings)
    return found.parts(chosen).sampling


def made(
    prompts: Any, length: Any, constraints: Any, path: dict[str, Any], seed: Any = 0, **options: Any
) -> list[Result]:
    options = {"stop": (STOP,), "details": True} | options
    network = text_network(seed=1)
    events = generate(network, prompts, length, seed=seed, constraints=constraints, **options, **path)
    return collect(events, prompts, length, options["stop"])


def text(row: Result) -> str:
    return b"".join(WORDS[token] for token in row.content.tolist()).decode()


@pytest.mark.parametrize("system", SYSTEMS)
@given(
    st.sampled_from(PATTERNS), st.integers(8, 17), st.integers(1, 7), st.integers(0, 99), st.sampled_from([0.0, 1.5])
)
@settings(max_examples=8, deadline=None)
def test_the_text_matches(system: str, pattern: str, length: int, prompt: int, seed: int, temperature: float) -> None:
    path = parts(system, temperature=temperature)
    (row,) = made([tokens(prompt, seed)], length, [held(pattern)], path, seed)
    assert re.fullmatch(pattern, text(row)), text(row)
    assert row.stopped or len(row.content) == length
    assert row.log_prob is not None and torch.isfinite(row.log_prob).all()


AT_ONCE = [Dynamic(0.0), Threshold(0.0), Leading(0.0), EntropyBounded(1e9)]


@pytest.mark.parametrize("rule", [*AT_ONCE, Static(), Sequential(), Dynamic(0.9)], ids=repr)
@pytest.mark.parametrize("sampler", [Sampler(), Sampler(1.0, top_k=7, top_p=0.9)], ids=["greedy", "drawn"])
def test_tokens_that_are_fixed_together_fit_each_other(rule: Any, sampler: Sampler) -> None:
    """Whole blocks in one step, as far as their tokens fit; what did not fit is filled later."""
    path = {"layout": Blocks(8), "pattern": BlockCausal(), "schedule": BlockByBlock(2)}
    path["process"] = AbsorbingMask(MASK, rule, sampler)
    late = 0
    for seed in range(2):
        for pattern in PATTERNS:
            (row,) = made([tokens(5, seed)], 11, [held(pattern)], path, seed)
            assert re.fullmatch(pattern, text(row)), text(row)
            late += row.forwards > 2  # blocks
    assert late or rule not in AT_ONCE


@pytest.mark.parametrize("system", ["ar", "sdar", "llada"])
def test_a_stop_token_that_spells_text_ends_it_alone(system: str) -> None:
    """No open place counts on a token that may not stand in the text: c could be spelt, what follows it not."""
    pattern, stop = "[ab]*(c1+|b)", (STOP, *(i for i, word in enumerate(WORDS) if b"1" in word))
    for seed in range(6):
        (row,) = made([tokens(5, seed)], 9, [held(pattern)], parts(system, temperature=1.5), seed, stop=stop)
        assert re.fullmatch("[ab]*b", text(row)), text(row)


def test_after_every_step_the_text_can_still_be_completed() -> None:
    process = AbsorbingMask(MASK, Threshold(0.2), Sampler(1.0))
    for pattern in PATTERNS:
        automaton = held(pattern).ended_by((STOP,))
        now = torch.full((14,), OPEN)
        steps = stream(
            text_network(seed=1), [tokens(6)], 14, process, BlockByBlock(4), stop=(STOP,), drafts=True,
            constraints=[held(pattern)],
        )  # fmt: skip
        opened = 14
        for event in steps:
            at = event.start - 6
            now[max(at, 0) : at + len(event.content)] = event.content[max(-at, 0) :]
            assert automaton.possible(automaton.start, now.numpy(), 0)
            assert int((now == OPEN).sum()) < opened, "a step fixes a token"
            opened = int((now == OPEN).sum())


@pytest.mark.parametrize("system", ["ar", "sdar", "fast-dllm-v2", "wedlm", "tidar", "llada"])
def test_a_row_in_a_batch_is_what_it_is_alone(system: str) -> None:
    """Rows with constraints of their own, and one without, whose text is that of a generation that knows of none."""
    path = parts(system, temperature=1.0)
    prompts, lengths, seeds = [tokens(5), tokens(2, 4), tokens(8, 1), tokens(3, 2)], [14, 9, 12, 11], [7, 8, 9, 10]
    constraints = [held(PATTERNS[4]), None, held(PATTERNS[2]), held(PATTERNS[0])]
    together = made(prompts, lengths, constraints, path, seeds)
    for i, row in enumerate(together):
        (alone,) = made(prompts[i : i + 1], lengths[i], constraints[i : i + 1], path, seeds[i])
        same(row, alone)
    (free,) = made(prompts[1:2], lengths[1], (), path, seeds[1])
    same(together[1], free)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_blocks_of_one_token_are_autoregression(pattern: str, temperature: float) -> None:
    sampler = Sampler(temperature)
    options: dict[str, Any] = {
        "layout": Blocks(1),
        "pattern": Causal(),
        "constraints": [held(pattern)],
        "stop": (STOP,),
    }
    network, prompts = text_network(seed=1), [tokens(5)]
    (one,) = run(network, prompts, 12, AbsorbingMask(MASK, Static(), sampler, shift=1), Seeded(1), seed=3, **options)
    (other,) = run(network, prompts, 12, NextToken(sampler), TokenByToken(), seed=3, **options)
    same(one, other)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_verified_drafts_are_autoregression_too(pattern: str, temperature: float) -> None:
    """Token for token, in no more forwards."""
    for seed in range(3):
        (drafted,), (plain,) = (
            made([tokens(5, seed)], 13, [held(pattern)], parts(system, temperature=temperature), seed)
            for system in ("tidar", "ar")
        )
        assert drafted.row.tolist() == plain.row.tolist() and drafted.forwards <= plain.forwards


def test_drafts_are_held_to_the_constraint_too() -> None:
    """Where everything is forced, every draft is right."""
    letters = lifted(compiled("(abc){4}"), [b"a", b"b", b"c", *[b""] * 29])
    (row,) = made([tokens(3)], 12, [letters], parts("tidar"), stop=())
    assert row.content.tolist() == [0, 1, 2] * 4 and row.forwards == 4  # one token, then four at a time


def test_a_forced_token_is_certain_and_fixed_at_once() -> None:
    letters = lifted(compiled("(abc){4}"), [b"a", b"b", b"c", *[b""] * 29])
    (row,) = made([tokens(4)], 12, [letters], parts("sdar"), stop=())
    assert row.forwards == 3 and row.content.tolist() == [0, 1, 2] * 4
    assert row.log_prob is not None and row.log_prob.tolist() == [0.0] * 12


@pytest.mark.parametrize("memory", ["exact", "none"])
@pytest.mark.parametrize("fuse", [True, False])
def test_memory_changes_nothing(memory: str, fuse: bool) -> None:
    path = parts("sdar", temperature=1.0) | {"memory": memory, "fuse": fuse}
    reference = made([tokens(5)], 14, [held(PATTERNS[4])], parts("sdar", temperature=1.0), 5)
    (row,) = made([tokens(5)], 14, [held(PATTERNS[4])], path, 5)
    same(row, reference[0])


def test_without_stop_tokens_the_length_is_filled() -> None:
    for length in (3, 6, 9):
        (row,) = made([tokens(5)], length, [held("(abc)+")], parts("sdar"), stop=())
        assert len(row.content) == length and re.fullmatch("(abc)+", text(row))


def test_a_gap_is_filled_to_its_end() -> None:
    path = parts("sdar")
    prompt = [*tokens(6), *[OPEN] * 7, *tokens(6, 3)]
    events = generate(text_network(seed=1), [prompt], 0, stop=(STOP,), constraints=[held("a.*c")], **path)
    (row,) = collect(events, [prompt], 0, starts=[6])
    gap = replace(row, content=row.row[6:13])
    assert re.fullmatch("a.*c", text(gap)) and STOP not in gap.content
    assert row.row[:6].tolist() == prompt[:6] and row.row[13:].tolist() == prompt[13:]


def test_nothing_is_asked_of_what_lies_behind_the_length() -> None:
    """A length that ends inside a block: the rest of the block is free, and cut off."""
    path = parts("sdar", temperature=1.0)
    for length in (5, 6, 7):
        (row,) = made([tokens(4)], length, [held("[abc]{9}")], path, 2)
        assert re.fullmatch("[abc]{9}", text(row))


# --- refusals -------------------------------------------------------------------------------------------------------

OUT_OF_ORDER = [
    (AllAtOnce(3), Bidirectional(), Blocks(4)),
    (Diagonal(4, 2, 1), BlockCausal(), Blocks(4)),
    (LevelByLevel(2), BlockCausal(), Blocks(4)),
    (AllAtOnce(3), Bidirectional(), Blocks(1)),
]
IN_ORDER = [
    (AllAtOnce(4), Bidirectional(), Blocks(16)),  # a row of one unit
    (Diagonal(4, 1, 0), BlockCausal(), Blocks(4)),
    (Diagonal(4, 3, 4), BlockCausal(), Blocks(4)),
    (LevelByLevel(1), BlockCausal(), Blocks(4)),
    (BehindPrompt(5, 5), Bidirectional(), Blocks(1)),
]


@pytest.mark.parametrize(("schedule", "pattern", "layout"), OUT_OF_ORDER)
def test_a_path_that_leaves_the_order_is_refused_before_the_first_forward(
    schedule: Any, pattern: Any, layout: Any
) -> None:
    path = {"schedule": schedule, "pattern": pattern, "layout": layout, "process": AbsorbingMask(MASK, Static())}
    with pytest.raises(SettingError, match="where all before the live unit is known"):
        generate(text_network(), [tokens(5)], 10, constraints=[held("a*")], **path)
    made([tokens(5)], 10, [None], path)  # nothing to hold


@pytest.mark.parametrize(("schedule", "pattern", "layout"), IN_ORDER)
def test_a_path_that_keeps_the_order_holds(schedule: Any, pattern: Any, layout: Any) -> None:
    path = {"schedule": schedule, "pattern": pattern, "layout": layout, "process": AbsorbingMask(MASK, Static())}
    (row,) = made([tokens(5)], 10, [held(PATTERNS[3])], path)
    assert re.fullmatch(PATTERNS[3], text(row))


class Unsteady:
    """A schedule that leaves the order only where a unit is partly known before its first move."""

    def __call__(self, levels: Any, start: int = 0) -> Any:
        move = BlockByBlock(4)(levels, start)
        early = move is not None and levels.value[0] < 1 and not levels.visits[0]
        return replace(move, units=(move.units[0] + 1,)) if early else move


def test_a_path_that_leaves_the_order_later_is_refused_then() -> None:
    process = AbsorbingMask(MASK, Sequential())
    options: dict[str, Any] = {"constraints": [held("a*")], "stop": (STOP,)}
    steps = stream(text_network(), [tokens(3)], 12, process, Unsteady(), **options)
    with pytest.raises(SettingError, match="where all before the live unit is known"):
        list(steps)


def refused(why: str, prompts: Any, length: Any, constraints: Any, path: dict[str, Any], **options: Any) -> None:
    with pytest.raises(SettingError, match=why):
        made(prompts, length, constraints, path, **options)


@pytest.mark.parametrize(
    ("pattern", "length", "stop", "why"),
    [
        ("a{9}", 3, (STOP,), r"row 0: the pattern 'a\{9}' needs at least 5 tokens, the length is 3; pass 5 or more"),
        ("a{9}", 3, (), "needs at least 5 tokens"),
        ("a", 0, (STOP,), "needs at least 1 tokens, the length is 0"),
        ("1{4}", 5, (), "cannot be met in exactly 5 tokens, and no stop token may end it before; pass 4$"),
        ("(é1)*", 3, (), "cannot be met in exactly 3 tokens.*; pass 4$"),
    ],
)
def test_a_length_in_which_it_cannot_be_met(pattern: str, length: int, stop: tuple[int, ...], why: str) -> None:
    words = [*WORDS]
    words[22:24] = b"", b""  # no halves of é
    refused(
        why,
        [tokens(4)],
        length,
        [lifted(compiled(pattern), words, f"the pattern {pattern!r}")],
        parts("sdar"),
        stop=stop,
    )


def test_a_stretch_that_is_not_one() -> None:
    gaps = [*tokens(4), OPEN, *tokens(3), OPEN, *tokens(3)]
    refused(
        "row 0: a constraint governs one stretch of tokens, not several gaps", [gaps], 0, [held("a")], parts("sdar")
    )
    gap = [*tokens(4), OPEN, *tokens(3)]
    refused("not a gap in the prompt and tokens behind it", [gap], 4, [held("a")], parts("sdar"))
    refused("next-token generation cannot infill", [gap], 0, [held("a")], parts("ar"))
    refused("needs at least 5 tokens, the gap is 1", [gap], 0, [held("a{9}")], parts("sdar"))


def test_constraints_that_do_not_fit_the_call() -> None:
    refused("1 prompts and 2 constraints", [tokens(4)], 4, [held("a*"), None], parts("sdar"))
    refused(
        "knows 3 tokens, the network 32", [tokens(4)], 4, [lifted(compiled("a*"), [b"a", b"b", b"c"])], parts("sdar")
    )
    masked = lifted(compiled("a*"), [b"a"] * VOCABULARY)
    refused("lets the mask stand in a text", [tokens(4)], 4, [masked], parts("sdar"))
    made([tokens(4)], 4, [masked], parts("ar"))


def test_features_have_no_text() -> None:
    with pytest.raises(SettingError, match="governs tokens"):
        generate(
            feature_network(), [features(4)], 8, constraints=[held("a*")], label=[0],
            layout=Blocks(4), pattern=BlockCausal(), process=FlowMatching(), schedule=BlockByBlock(3),
        )  # fmt: skip


class Restless(AbsorbingMask):
    """Changes what it has fixed."""

    def open(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x, dtype=torch.bool)


def test_a_process_that_changes_what_is_fixed_is_refused() -> None:
    path = parts("sdar") | {"process": Restless(MASK)}
    refused("tokens that stay once they are fixed", [tokens(4)], 4, [held("a*")], path)
