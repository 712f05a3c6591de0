"""Every path as a table by hand, and the published tables of moves."""

from __future__ import annotations

import pytest

from interlace.grid import Levels, Schedule, walk
from interlace.schedules import (
    AllAtOnce,
    BehindPrompt,
    BlockByBlock,
    Diagonal,
    LevelByLevel,
    Seeded,
    Streaming,
    TokenByToken,
)


def table(schedule: Schedule, units: int, clean: int = 0) -> str:
    """Units down, moves across; the numbers are the steps."""
    moves = [dict(zip(move.units, move.step, strict=True)) for _, move in walk(schedule, units, clean)]
    return "\n".join("".join(str(move.get(unit, ".")) for move in moves) for unit in range(units))


def drawn(text: str) -> str:
    return "\n".join(text.split())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (TokenByToken(), "0.. .0. ..0"),
        (BlockByBlock(1), "0.. .0. ..0"),
        (BlockByBlock(3), "012...... ...012... ......012"),
        (AllAtOnce(1), "0 0 0"),
        (AllAtOnce(4), "0123 0123 0123"),
        (LevelByLevel(2), "0..1.. .0..1. ..0..1"),
        (LevelByLevel(1), "0.. .0. ..0"),
        (Diagonal(3, window=3, lag=1), "012.. .012. ..012"),
        (Diagonal(3, window=2, lag=1), "012... .012.. ...012"),
        (Diagonal(3, window=2, lag=2), "012.... ..012.. ....012"),
        (Diagonal(3, window=1, lag=0), "012...... ...012... ......012"),
        (Diagonal(2, window=2, lag=0), "01.. 01.. ..01"),
    ],
    ids=repr,
)
def test_three_units(schedule: Schedule, expected: str) -> None:
    assert table(schedule, units=3) == drawn(expected)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (TokenByToken(), ".. .. 0. .0"),
        (BlockByBlock(2), ".... .... 01.. ..01"),
        (AllAtOnce(2), ".. .. 01 01"),
        (LevelByLevel(2), ".... .... 0.1. .0.1"),
        (Diagonal(2, window=2, lag=1), "... ... 01. .01"),
    ],
    ids=repr,
)
def test_a_prompt_of_two_units(schedule: Schedule, expected: str) -> None:
    assert table(schedule, units=4, clean=2) == drawn(expected)


def test_blocks_behind_the_prompt() -> None:
    assert table(BehindPrompt(2, 2), units=6, clean=1) == drawn("...... 01.... 01.... ..01.. ..01.. ....01")
    assert table(BehindPrompt(3, 1), units=3) == drawn("0 0 0")


def test_a_window_that_is_refilled_before_or_after_the_forward() -> None:
    """A path that is drawn fills the whole window; refilled after, a move of its own commits what was filled."""
    assert table(Streaming(2), units=5, clean=1) == drawn(".. 0. 0. .0 .0")
    assert table(Streaming(2, "after"), units=5, clean=1) == drawn("... 00. 00. ..0 ..0")


def test_seeded_blocks_begin_blind() -> None:
    """Two units per block: the first of each begins blind, unless something of it is known."""
    schedule = Seeded(2, every=2)
    assert table(schedule, units=4) == table(BlockByBlock(2), units=4)
    assert [move.units for _, move in walk(schedule, 4) if move.blind] == [(0,), (2,)]
    assert [move.units for _, move in walk(schedule, 4, clean=1) if move.blind] == [(2,)]
    partly = Levels.start(2)
    partly.value[0] = 0.5
    move = Seeded(4)(partly)
    assert move is not None and not move.blind
    assert not any(move.blind for _, move in walk(BlockByBlock(2), 4))


def rows(steps: int, units: int, lag: int) -> str:
    """Every row of remaining steps that the diagonal passes, the clean one at the end."""
    seen = [levels.value for levels, _ in walk(Diagonal(steps, window=units, lag=lag), units)]
    return " ".join("".join(str(round(level * steps)) for level in value) for value in [*seen, [0.0] * units])


@pytest.mark.parametrize(
    ("steps", "units", "lag", "expected"),
    [
        (3, 4, 1, "3333 2333 1233 0123 0012 0001 0000"),
        (3, 4, 2, "3333 2333 1333 0233 0133 0023 0013 0002 0001 0000"),
        (3, 4, 3, "3333 2333 1333 0333 0233 0133 0033 0023 0013 0003 0002 0001 0000"),
        (3, 3, 0, "333 222 111 000"),
    ],
)
def test_diagonal_is_the_table_of_cmdm(steps: int, units: int, lag: int, expected: str) -> None:
    assert rows(steps, units, lag) == expected


@pytest.mark.parametrize(
    ("units", "lag", "calls", "live"),
    [(17, 2, 82, 17), (49, 2, 146, 25), (49, 5, 290, 10), (49, 50, 2450, 1), (49, 0, 50, 49)],
)
def test_diagonal_makes_the_calls_of_cmdm(units: int, lag: int, calls: int, live: int) -> None:
    moves = [move for _, move in walk(Diagonal(50, window=units, lag=lag), units)]
    assert len(moves) == calls
    assert max(len(move.units) for move in moves) == live


def test_diagonal_gathers_the_independent_cells_of_hiar() -> None:
    diagonals = [
        {(unit + 1, step + 1) for unit, step in zip(move.units, move.step, strict=True)}
        for _, move in walk(Diagonal(3, window=4, lag=1), units=4)
    ]
    assert diagonals == [
        {(1, 1)},
        {(2, 1), (1, 2)},
        {(3, 1), (2, 2), (1, 3)},
        {(4, 1), (3, 2), (2, 3)},
        {(4, 2), (3, 3)},
        {(4, 3)},
    ]
    serial = [(move.units[0] + 1, move.step[0] + 1) for _, move in walk(LevelByLevel(3), units=4)]
    assert serial == [(n, j) for j in (1, 2, 3) for n in (1, 2, 3, 4)]


def test_a_unit_that_is_clean_early_lets_the_next_one_start() -> None:
    levels = Levels.start(3)
    levels.value[0], levels.visits[0] = 0.0, 1
    for schedule in (BlockByBlock(4), Diagonal(4, window=2, lag=3), LevelByLevel(4)):
        move = schedule(levels)
        assert move is not None
        assert (move.units, move.step) == ((1,), (0,))


def test_a_unit_that_is_still_noisy_after_its_steps_gets_the_last_one_again() -> None:
    levels = Levels.start(2)
    levels.value[:], levels.visits[:] = 0.25, (7, 9)
    for schedule in (BlockByBlock(3), AllAtOnce(3), Diagonal(3, window=2, lag=1), LevelByLevel(3)):
        move = schedule(levels)
        assert move is not None
        assert set(move.step) == {2}


def test_a_known_unit_in_the_middle_does_not_break_the_stagger() -> None:
    levels = Levels.start(3)
    levels.value[1] = 0.0
    moves = [Diagonal(4, window=3, lag=2)(levels)]
    levels.value[0], levels.visits[0] = 0.5, 2
    moves.append(Diagonal(4, window=3, lag=2)(levels))
    assert [move and (move.units, move.step) for move in moves] == [((0,), (0,)), ((0, 2), (2, 0))]
