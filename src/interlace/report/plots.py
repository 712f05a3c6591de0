"""Plots as small SVG figures whose colours come from the page: light or dark, they fit.

A figure is text: lines, points, bars and letters with classes (``s0`` .. ``s7`` for the series) that ``style.css``
colours. Every mark has a tooltip with its numbers. Nothing here knows what is plotted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Bar", "Series", "bars", "chart", "ticks"]

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 22, 18, 46


@dataclass(frozen=True)
class Series:
    """Points to be drawn in one colour: (x, y), joined by a line if ``line``.

    low, high: ends of a 95% interval for every point. labels: a short text beside every point. style: 0 to 7, one for
    each contestant throughout a page. marks: whether the points are marked.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: int = 0
    line: bool = True
    marks: bool = True
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    labels: Sequence[str] = ()
    faint: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its length, what is written behind it."""

    name: str
    value: float
    text: str
    style: int = 0
    note: str = field(default="", compare=False)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover low..high: multiples of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0), ticks(2.4, 4.1)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [2.0, 2.5, 3.0, 3.5, 4.0, 4.5])
    """
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / about))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def chart(
    series: Sequence[Series],
    x: str,
    y: str,
    title: str,
    y_from: float | None = None,
    y_to: float | None = None,
    x_from: float | None = None,
    percent: bool = False,
) -> str:
    """Lines and points over two axes, with a legend above; ``title`` is read to those who do not see it.

    y_from, y_to, x_from: what the axes reach at least, besides the points. percent: y is a share.
    """
    shown = [s for s in series if s.points]
    xs = [p[0] for s in shown for p in s.points] or [0.0, 1.0]
    ys = [v for s in shown for v in (*(p[1] for p in s.points), *s.low, *s.high)] or [0.0, 1.0]
    across = ticks(min(xs if x_from is None else [x_from, *xs]), max(xs))
    up = ticks(min(ys if y_from is None else [y_from, *ys]), max(ys if y_to is None else [y_to, *ys]))
    scale = _Scale(across[0], across[-1], up[0], up[-1])
    parts = [_grid(scale, across, up, x, y, percent)]
    for s in shown:
        parts.append(_series(scale, s, x, y, percent))
    return _figure(parts, title, WIDTH, HEIGHT) + _legend(shown)


def bars(rows: Sequence[Bar], title: str) -> str:
    """Horizontal bars from 0, one under the other, with their numbers."""
    high, pitch = max([b.value for b in rows if b.value > 0] or [1.0]), 38
    left, right = 150, 110
    parts = []
    for i, bar in enumerate(rows):
        top, length = 6 + i * pitch, max(1.0, bar.value / high * (WIDTH - left - right))
        parts.append(
            f"<g><title>{escape(bar.name)}: {escape(bar.text)} {escape(bar.note)}</title>"
            f'<text class="name" x="{left - 12}" y="{top + 17}" text-anchor="end">{escape(bar.name)}</text>'
            f'<rect class="fill s{bar.style}" x="{left}" y="{top}" width="{length:.1f}" height="24" rx="4"/>'
            f'<text class="value" x="{left + length + 8:.1f}" y="{top + 17}">{escape(bar.text)}</text></g>'
        )
    return _figure(parts, title, WIDTH, 12 + len(rows) * pitch)


@dataclass(frozen=True)
class _Scale:
    """From numbers to places in the figure."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0 or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0 or 1) * (HEIGHT - TOP - BOTTOM)


def _grid(scale: _Scale, across: Sequence[float], up: Sequence[float], x: str, y: str, percent: bool) -> str:
    parts = []
    for value in up:
        height = scale.y(value)
        ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"'
        beside = f'x="{LEFT - 8}" y="{height + 4:.1f}" text-anchor="end"'
        parts.append(f'<line class="grid" {ends}/><text class="tick" {beside}>{_word(value, percent)}</text>')
    for value in across:
        place = f'x="{scale.x(value):.1f}" y="{HEIGHT - BOTTOM + 18}"'
        parts.append(f'<text class="tick" {place} text-anchor="middle">{_word(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    turned = f'transform="translate(13 {(HEIGHT - BOTTOM + TOP) / 2}) rotate(-90)"'
    parts.append(f'<text class="axis" {turned} text-anchor="middle">{escape(y)}</text>')
    return "".join(parts)


def _series(scale: _Scale, s: Series, x: str, y: str, percent: bool) -> str:
    places = [(scale.x(px), scale.y(py)) for px, py in s.points]
    faint = " faint" if s.faint else ""
    parts = []
    for (px, _), low, high in zip(places, s.low, s.high, strict=False):
        ends = f'x1="{px:.1f}" x2="{px:.1f}" y1="{scale.y(low):.1f}" y2="{scale.y(high):.1f}"'
        parts.append(f'<line class="range s{s.style}" {ends}/>')
    if s.line and len(places) > 1:
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(f'<polyline class="line s{s.style}{faint}" points="{path}"/>')
    if s.marks:
        for (px, py), (vx, vy) in zip(places, s.points, strict=True):
            tip = f"{s.name}: {x} {_word(vx)}, {y} {_word(vy, percent)}"
            circle = f'<circle class="mark s{s.style}" cx="{px:.1f}" cy="{py:.1f}" r="4.5"/>'
            parts.append(f"<g><title>{escape(tip)}</title>{circle}</g>")
    for (px, py), label in zip(places, s.labels, strict=False):
        parts.append(f'<text class="label s{s.style}" x="{px + 8:.1f}" y="{py - 8:.1f}">{escape(label)}</text>')
    return "".join(parts)


def _figure(parts: Sequence[str], title: str, width: int, height: int) -> str:
    head = f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">'
    return f"{head}{''.join(parts)}</svg>"


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    items = (f'<span><i class="dot s{s.style}"></i>{escape(s.name)}</span>' for s in series)
    return f'<p class="legend">{"".join(items)}</p>'


def _word(value: float, percent: bool = False) -> str:
    """A number as short as it can be said."""
    if percent:
        return f"{100 * value:.3g}%"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
