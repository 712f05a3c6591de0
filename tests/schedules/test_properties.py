"""What holds on every path: it arrives, takes the steps that it says, and touches nothing that is clean."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace.grid import Levels, Move, walk
from interlace.schedules import AllAtOnce, BehindPrompt, BlockByBlock, Diagonal, LevelByLevel, Seeded, TokenByToken

patient = settings(deadline=None)  # a busy machine is no failure

STEPS = st.integers(1, 6)
DIAGONALS = STEPS.flatmap(lambda n: st.builds(Diagonal, st.just(n), window=st.integers(1, 8), lag=st.integers(0, n)))
SCHEDULES: st.SearchStrategy[Any] = st.one_of(
    st.just(TokenByToken()),
    st.builds(BlockByBlock, STEPS),
    st.builds(AllAtOnce, STEPS),
    st.builds(LevelByLevel, STEPS),
    st.builds(Seeded, STEPS, st.integers(1, 4)),
    st.builds(BehindPrompt, st.integers(1, 4), STEPS),
    DIAGONALS,
)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Any, int, int]:
    """A schedule, a number of units, and how many of them are a prompt."""
    units = draw(st.integers(0, 7))
    return draw(SCHEDULES), units, draw(st.integers(0, units))


def steps_of(schedule: Any) -> int:
    return getattr(schedule, "steps", 1)


def window_of(schedule: Any, units: int) -> int:
    """Most units that the schedule may have in flight."""
    if isinstance(schedule, TokenByToken | BlockByBlock | Seeded):
        return 1
    return schedule.window if isinstance(schedule, Diagonal) else units


def adaptive(schedule: Any, levels: Levels, data: st.DataObject) -> Iterator[tuple[Levels, Move]]:
    """The path when units fall further than they were asked to, or not as far, at random."""
    for _ in range(60 * len(levels) + 1):
        move = schedule(levels)
        if move is None:
            return
        yield copy.deepcopy(levels), move
        for unit, aim in zip(move.units, move.to, strict=True):
            stays = levels.visits[unit] < 12 and levels.value[unit] > 0
            choices = [0.0, min(aim, levels.value[unit]), aim * 0.5] + [levels.value[unit]] * int(stays)
            levels.value[unit] = data.draw(st.sampled_from(choices))
            levels.visits[unit] += 1
    raise AssertionError(f"{schedule} has not arrived at {levels}")


@patient
@given(tasks())
def test_it_arrives_and_every_unit_takes_each_step_once_in_order(task: tuple[Any, int, int]) -> None:
    schedule, units, clean = task
    taken: dict[int, list[int]] = {unit: [] for unit in range(units)}
    for levels, move in walk(schedule, units, clean):
        assert move.of == steps_of(schedule)
        assert list(move.units) == sorted(set(move.units)) and move.units
        assert all(type(n) is int for n in (*move.units, *move.step, move.of))
        assert levels.value[list(move.units)].tolist() == list(move.frm)
        assert all(to < frm for to, frm in zip(move.to, move.frm, strict=True))
        for unit, step in zip(move.units, move.step, strict=True):
            taken[unit].append(step)
    every = list(range(steps_of(schedule)))
    assert taken == {unit: every if unit >= clean else [] for unit in range(units)}


@patient
@given(tasks())
def test_no_more_units_are_in_flight_than_the_window(task: tuple[Any, int, int]) -> None:
    schedule, units, clean = task
    for levels, move in walk(schedule, units, clean):
        started = set(np.flatnonzero((levels.value > 0) & (levels.value < 1))) | set(move.units)
        assert len(started) <= window_of(schedule, units)
        assert max(started) - levels.frontier() < window_of(schedule, units)


@patient
@given(tasks())
def test_an_earlier_unit_is_never_noisier(task: tuple[Any, int, int]) -> None:
    schedule, units, clean = task
    for levels, _ in walk(schedule, units, clean):
        assert (np.diff(levels.value) >= 0).all()


@patient
@given(tasks(), st.data())
def test_adaptive_jumps_still_arrive_and_never_move_a_clean_unit(
    task: tuple[Any, int, int], data: st.DataObject
) -> None:
    schedule, units, clean = task
    levels = Levels.start(units, clean)
    for before, move in adaptive(schedule, levels, data):
        assert move.together or (before.value[list(move.units)] > 0).all()
        assert all(0 <= step < move.of for step in move.step)
        assert min(move.units) >= clean
        assert max(move.units) - before.frontier() < window_of(schedule, units)
    assert (levels.value == 0).all()
    assert (levels.visits[:clean] == 0).all()


@patient
@given(tasks(), st.data())
def test_the_start_hint_changes_nothing_and_nothing_is_written(task: tuple[Any, int, int], data: st.DataObject) -> None:
    schedule, units, clean = task
    for levels, move in adaptive(schedule, Levels.start(units, clean), data):
        kept = copy.deepcopy(levels)
        for start in range(levels.frontier() + 1):
            assert schedule(levels, start) == move
        assert (levels.value == kept.value).all() and (levels.visits == kept.visits).all()
    arrived = Levels.start(units, units)
    assert [schedule(arrived, start) for start in range(units + 1)] == [None] * (units + 1)


@patient
@given(STEPS, st.integers(0, 6), st.data())
def test_the_corner_cases_of_the_diagonal_are_the_other_paths(steps: int, units: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(1, 7))
    for diagonal, other in [
        (Diagonal(steps, window=1, lag=data.draw(st.integers(0, steps))), BlockByBlock(steps)),
        (Diagonal(steps, window=window, lag=steps), BlockByBlock(steps)),
        (Diagonal(steps, window=units + window, lag=0), AllAtOnce(steps)),
    ]:
        assert [move for _, move in walk(diagonal, units)] == [move for _, move in walk(other, units)]


@patient
@given(STEPS, st.integers(1, 6), st.data())
def test_a_window_of_one_and_a_window_over_all_also_adapt_alike(steps: int, units: int, data: st.DataObject) -> None:
    pairs = [
        (Diagonal(steps, window=1, lag=steps), BlockByBlock(steps)),
        (Diagonal(steps, window=units, lag=0), AllAtOnce(steps)),
    ]
    diagonal, other = data.draw(st.sampled_from(pairs))
    for levels, move in adaptive(diagonal, Levels.start(units), data):
        assert other(levels) == move


@patient
@given(STEPS, st.integers(1, 6), st.integers(0, 6))
def test_the_length_of_the_diagonal(steps: int, units: int, lag: int) -> None:
    lag = min(lag, steps)
    assert sum(1 for _ in walk(Diagonal(steps, window=units, lag=lag), units)) == steps + (units - 1) * lag


@patient
@given(st.integers(1, 6))
def test_one_step_and_one_unit_make_paths_equal(n: int) -> None:
    def moves(schedule: Any, units: int) -> list[Move]:
        return [move for _, move in walk(schedule, units)]

    assert moves(LevelByLevel(1), n) == moves(BlockByBlock(1), n) == moves(TokenByToken(), n)
    assert moves(LevelByLevel(n), 1) == moves(AllAtOnce(n), 1) == moves(BlockByBlock(n), 1)
