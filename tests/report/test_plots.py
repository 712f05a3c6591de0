"""Plots: round ticks, and marks where the numbers say."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlace.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Bar, Series, bars, chart, ticks

finite = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3))


@given(finite, finite)
def test_ticks_cover_what_they_are_for_and_are_evenly_spaced(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = ticks(low, high)
    assert found[0] <= low + 1e-9 * abs(low) + 1e-12 and found[-1] >= high - 1e-9 * abs(high) - 1e-12
    assert 2 <= len(found) <= 8
    steps = [y - x for x, y in itertools.pairwise(found)]
    assert min(steps) > 0 and max(steps) == pytest.approx(min(steps), rel=1e-6)


def places(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle[^>]* cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_points_stand_where_the_axes_say() -> None:
    svg = chart([Series("one", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.25)])], "x", "y", "title")
    left, right, bottom, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    middle = ((left + right) / 2, bottom + 0.25 * (top - bottom))
    for found, wanted in zip(places(svg), [(left, bottom), (right, top), middle], strict=True):
        assert found == pytest.approx(wanted, abs=0.06)


def test_an_axis_reaches_what_it_is_told_to_and_every_point() -> None:
    svg = chart([Series("one", [(1.0, 0.93), (2.0, 1.2)])], "x", "y", "title", y_from=1.0, x_from=0.0)
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in places(svg))
    assert places(svg)[0][0] > LEFT + 100  # 0 stands at the left end
    share = chart([Series("one", [(0.0, 0.5)])], "x", "y", "title", y_from=0.0, y_to=1.0, percent=True)
    assert ">100%<" in share and ">0%<" in share
    assert places(share)[0][1] == pytest.approx((TOP + HEIGHT - BOTTOM) / 2, abs=0.06)


def test_equal_points_and_no_points_are_drawn_too() -> None:
    for points in ([(1.0, 1.0), (1.0, 1.0)], []):
        ElementTree.fromstring(chart([Series("one", points)], "x", "y", "title"))


def test_names_are_escaped_and_every_mark_says_its_numbers() -> None:
    svg = chart([Series("<a&b>", [(1.0, 0.5)], labels=["<l>"])], "x", "y", 'a "title"', percent=True)
    ElementTree.fromstring(svg)
    assert "&lt;a&amp;b&gt;: x 1, y 50%" in svg and "&lt;l&gt;" in svg
    drawn = bars([Bar("<a>", 2.0, "2 t/s"), Bar("b", 4.0, "4 t/s", 1), Bar("c", 0.0, "0")], "title")
    ElementTree.fromstring(drawn)
    short, long, none = (float(w) for w in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn))
    assert long == pytest.approx(2 * short, abs=0.1) and none == 1.0
