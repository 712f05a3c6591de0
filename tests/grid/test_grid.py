"""Levels, moves, walks and quotas: the numbers that everything else counts with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace.errors import SettingError
from interlace.grid import Levels, Move, quotas, walk
from interlace.schedules import BlockByBlock, TokenByToken


def test_a_row_starts_as_noise_behind_its_prompt() -> None:
    levels = Levels.start(4, clean=2)
    assert levels.value.tolist() == [0, 0, 1, 1]
    assert levels.visits.tolist() == [0, 0, 0, 0]
    assert len(levels) == 4


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), max_size=12), st.data())
def test_the_frontier_is_the_first_unit_that_is_not_clean(value: list[float], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(value)))
    levels = Levels(np.array(value), np.zeros(len(value), dtype=np.int64))
    noisy = [unit for unit, level in enumerate(value) if level > 0 and unit >= start]
    found = levels.frontier(start)
    assert found == (noisy[0] if noisy else len(value))
    assert type(found) is int


def test_a_move_names_the_levels_that_it_joins() -> None:
    move = Move(units=(5, 6), step=(3, 0), of=4)
    assert move.frm == (0.25, 1.0)
    assert move.to == (0.0, 0.75)


@settings(deadline=None)
@given(st.integers(1, 1000))
def test_the_last_step_arrives_at_exactly_zero(of: int) -> None:
    assert Move((0,), (of - 1,), of).to == (0.0,)
    assert Move((0,), (0,), of).frm == (1.0,)


def test_a_walk_shows_the_levels_before_every_move() -> None:
    seen = [(levels.value.tolist(), levels.visits.tolist(), move.step) for levels, move in walk(BlockByBlock(2), 2)]
    assert seen == [
        ([1.0, 1.0], [0, 0], (0,)),
        ([0.5, 1.0], [1, 0], (1,)),
        ([0.0, 1.0], [2, 0], (0,)),
        ([0.0, 0.5], [2, 1], (1,)),
    ]


def test_a_walk_over_a_clean_row_has_no_moves() -> None:
    assert list(walk(TokenByToken(), units=3, clean=3)) == []
    assert list(walk(TokenByToken(), units=0)) == []


def test_a_walk_that_does_not_arrive_says_so() -> None:
    def never(levels: Levels, start: int = 0) -> Move:
        return Move((0,), (0,), 2)

    with pytest.raises(SettingError, match="not arrived after 5 moves; check"):
        list(walk(never, units=1, limit=5))


@pytest.mark.parametrize(
    ("size", "steps", "expected"),
    [
        (4, 4, [1, 1, 1, 1]),
        (8, 3, [3, 3, 2]),
        (8, 5, [2, 2, 2, 1, 1]),
        (4, 1, [4]),
        (2, 4, [1, 1, 0, 0]),
    ],
)
def test_quotas_by_hand(size: int, steps: int, expected: list[int]) -> None:
    assert quotas(size, steps) == expected


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(1, 50))
def test_quotas_are_even_complete_and_early(size: int, steps: int) -> None:
    shares = quotas(size, steps)
    assert len(shares) == steps
    assert sum(shares) == size
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)
