"""Settings that make no path are refused, and a line of text names a schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from interlace import schedules
from interlace.errors import SettingError
from interlace.schedules import (
    AllAtOnce,
    BlockByBlock,
    Diagonal,
    LevelByLevel,
    Streaming,
    Successive,
    TokenByToken,
    schedule_text,
)
from interlace.schedules import parse_schedule as parse


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockByBlock(0), "steps is 0; pass 1 or more"),
        (lambda: AllAtOnce(-1), "steps is -1; pass 1 or more"),
        (lambda: LevelByLevel(0), "steps is 0; pass 1 or more"),
        (lambda: Diagonal(0, 1, 0), "steps is 0; pass 1 or more"),
        (lambda: Diagonal(4, 0, 1), "window is 0; pass 1 or more"),
        (lambda: Diagonal(4, 2, 5), "lag is 5 with 4 steps; pass 0"),
        (lambda: Diagonal(4, 2, -1), "lag is -1 with 4 steps; pass 0"),
        (lambda: Streaming(0), "window is 0; pass 1 or more"),
        (lambda: Streaming(4, "later"), "refill is 'later'; pass 'before' or 'after'"),  # type: ignore[arg-type]
        (lambda: Successive((3, 4), (2,)), "pass as many of both, 1 or more each"),
        (lambda: Successive((3, 0), (2, 1)), "pass as many of both, 1 or more each"),
        (lambda: Successive((), ()), "pass as many of both, 1 or more each"),
        (lambda: Successive.even(16, 4, 6), "16 tokens and 6 steps do not divide into 4 blocks"),
    ],
)
def test_a_setting_outside_its_range(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("token-by-token", TokenByToken()),
        ("block-by-block:steps=4", BlockByBlock(4)),
        ("all-at-once:steps=12", AllAtOnce(12)),
        ("level-by-level:steps=4", LevelByLevel(4)),
        ("diagonal:steps=4,window=3,lag=2", Diagonal(4, window=3, lag=2)),
        ("streaming:window=4,refill=after", Streaming(4, "after")),
        ("successive:sizes=3+4+9,steps=2+1+1", Successive((3, 4, 9), (2, 1, 1))),
        ("successive:sizes=8,steps=4", Successive((8,), (4,))),
    ],
)
def test_a_line_of_text_and_back(text: str, schedule: Any) -> None:
    assert parse(text) == schedule
    assert schedule_text(schedule) == text


def test_spaces_and_order_do_not_matter() -> None:
    assert parse(" diagonal: lag = 2, steps=4 , window=3 ") == Diagonal(4, window=3, lag=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "zigzag",
            r"unknown schedule 'zigzag'; known: all-at-once:steps=N \| .*diagonal:steps=N,.* \| token-by-token$",
        ),
        ("", "unknown schedule ''; known: all-at-once"),
        ("block-by-block", "the schedule block-by-block lacks steps; write block-by-block:steps=N"),
        ("diagonal:steps=4", "lacks window, lag; write diagonal:steps=N,window=N,lag=N"),
        (
            "block-by-block:pace=4",
            "'pace=4' is no setting of the schedule block-by-block; write block-by-block:steps=N",
        ),
        ("block-by-block:steps=four", "'steps=four' is no setting"),
        ("block-by-block:steps=1.5", "'steps=1.5' is no setting"),
        ("block-by-block:steps", "'steps' is no setting"),
        ("block-by-block:steps=4,steps=5", "'steps=5' is no setting"),
        ("block-by-block:steps=0", "steps is 0; pass 1 or more"),
        (
            "streaming:window=4,refill=later",
            "'refill=later' is no setting of .* write streaming:window=N,refill=before/after",
        ),
        ("block-by-block:steps=1+2", "'steps=1\\+2' is no setting"),
        ("successive:sizes=3+,steps=2", r"'sizes=3\+' is no setting of .* write successive:sizes=N"),
        ("token-by-token:steps=1", "'steps=1' is no setting of the schedule token-by-token; write token-by-token"),
    ],
)
def test_a_line_that_names_no_schedule(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse(text)


def test_every_schedule_of_the_package_can_be_named() -> None:
    with pytest.raises(SettingError) as caught:
        parse("unknown")
    for name in ("token-by-token", "block-by-block", "all-at-once", "diagonal", "level-by-level"):
        assert name in str(caught.value)
    assert len([name for name in schedules.__all__ if name[0].isupper()]) == str(caught.value).count("|") + 1
