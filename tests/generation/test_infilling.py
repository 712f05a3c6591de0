"""Filling what is open: anywhere in the row, in any order; what is given is never touched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace.attention.patterns import Bidirectional, BlockCausal
from interlace.errors import SettingError
from interlace.generation import OPEN
from interlace.processes import AbsorbingMask
from interlace.reveal import Dynamic, EntropyBounded, Sequential, Static, Threshold
from interlace.sampling import Sampler
from interlace.schedules import AllAtOnce, BlockByBlock, Diagonal, LevelByLevel

from .conftest import MASK, run, same, stream, text_network, tokens

STATIC = AbsorbingMask(MASK, Static())
PATHS: list[tuple[Any, Any, Any]] = [
    (STATIC, BlockByBlock(2), BlockCausal()),
    (AbsorbingMask(MASK, Dynamic(0.4), Sampler(1.0)), BlockByBlock(4), BlockCausal()),
    (AbsorbingMask(MASK, Threshold(0.4)), AllAtOnce(3), Bidirectional()),
    (AbsorbingMask(MASK, Sequential()), LevelByLevel(2), BlockCausal()),
    (AbsorbingMask(MASK, EntropyBounded(1.0), Sampler(0.7)), Diagonal(4, 2, 2), BlockCausal()),
]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-15, MASK - 1), max_size=13), st.integers(0, 4), st.sampled_from(PATHS))
def test_given_tokens_stay_and_all_others_are_filled(prompt: list[int], length: int, path: Any) -> None:
    process, schedule, pattern = path
    prompt = [token if token >= 0 else OPEN for token in prompt]
    (row,) = run(text_network(), [prompt], length, process, schedule, pattern=pattern)
    filled = row.row.tolist()
    assert len(filled) == len(prompt) + length
    for before, after in zip(prompt, filled, strict=False):
        assert after == before if before != OPEN else 0 <= after < MASK
    assert all(0 <= token < MASK for token in filled)
    assert row.content.tolist() == filled[len(prompt) :]


def test_only_what_sees_a_gap_is_generated_anew() -> None:
    """A gap in the second of three blocks: one forward a token, and nothing for the blocks around it."""
    prompt = [*tokens(5), OPEN, OPEN, *tokens(5, 1)]
    events = list(stream(text_network(), [prompt], 0, STATIC, BlockByBlock(4)))
    assert [(e.unit, e.start, e.last, e.forwards) for e in events] == [(1, 4, True, 2)]
    assert events[0].content[[0, 3]].tolist() == [prompt[4], prompt[7]]


def test_a_gap_is_filled_from_what_its_pattern_shows() -> None:
    """The block behind a gap changes nothing under a block-causal pattern, and does under a bidirectional one."""
    prompts = [[*tokens(4), OPEN, OPEN, *tokens(2, 1), *tokens(4, seed)] for seed in (5, 6)]
    one, other = run(text_network(), prompts, 0, STATIC, BlockByBlock(2))
    assert one.row[:8].tolist() == other.row[:8].tolist()
    seen = [run(text_network(), [p], 0, STATIC, BlockByBlock(2), pattern=Bidirectional())[0] for p in prompts]
    assert seen[0].log_prob is not None and one.log_prob is not None
    assert seen[0].row[4:6].tolist() != seen[1].row[4:6].tolist()


def test_batched_as_alone() -> None:
    # in a block of nothing but masks all entropies are one number, and rounding would rank them: so 4 is given
    prompts = [[OPEN, 3, OPEN, 5, 6, OPEN], tokens(7), [*tokens(4), OPEN, *tokens(4)], [OPEN, 4]]
    for process, schedule, pattern in PATHS:
        rows = run(text_network(), prompts, 0, process, schedule, pattern=pattern, seed=[1, 2, 3, 4])
        for i, row in enumerate(rows):
            same(row, run(text_network(), prompts[i : i + 1], 0, process, schedule, pattern=pattern, seed=1 + i)[0])


def test_nothing_open_takes_no_forward() -> None:
    for prompt in ([], tokens(3), tokens(8)):
        (row,) = run(text_network(), [prompt], 0, STATIC, BlockByBlock(4))
        assert row.row.tolist() == prompt and row.content.tolist() == [] and row.forwards == 0


def test_a_stop_token_in_a_gap_ends_nothing() -> None:
    """Only what is generated behind the prompt can end a row: the tokens behind a gap are given."""
    prompt = [OPEN, OPEN, *tokens(6)]
    (free,) = run(text_network(), [prompt], 8, STATIC, BlockByBlock(4))
    stop = int(free.row[0])
    (row,) = run(text_network(), [prompt], 8, STATIC, BlockByBlock(4), stop=(stop,))
    hits = [i for i, token in enumerate(free.content.tolist()) if token == stop]
    assert row.content.tolist() == free.content.tolist()[: hits[0] if hits else None]
    assert row.stopped == bool(hits) and OPEN not in row.row.tolist()


def test_places_of_the_layout_change_nothing_and_others_do() -> None:
    prompts = [[*tokens(4), OPEN, OPEN, OPEN, OPEN], [*tokens(8, 1), OPEN, OPEN, OPEN, OPEN]]

    def rows(places: Any, **options: Any) -> Any:
        return run(text_network(), prompts, 0, STATIC, BlockByBlock(4), places=places, **options)

    plain = rows(None)
    for one, other in zip(plain, rows([torch.arange(8), torch.arange(12)]), strict=True):
        same(one, other)
    order = [torch.tensor([4, 5, 6, 7, 0, 1, 2, 3]), torch.arange(11, -1, -1)]
    moved = rows(order)
    assert [row.row.tolist() for row in plain] != [row.row.tolist() for row in moved]
    for one, other in zip(moved, rows(order, memory="none"), strict=True):
        same(one, other)
    with pytest.raises(SettingError, match="row 0 has 8 tokens in whole blocks, its places are"):
        rows([torch.arange(7), torch.arange(12)])
    with pytest.raises(SettingError, match="2 prompts and 1 rows of places"):
        rows([torch.arange(8)])
    with pytest.raises(SettingError, match="row 1: a place is outside 0 to 63"):
        rows([torch.arange(8), torch.arange(60, 72)])
