"""One self-contained HTML page out of parts: no scripts, fonts or pictures from elsewhere, light and dark.

Every function gives a string of HTML; what is text is escaped here. The looks are in ``style.css``.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .trace import Trace

__all__ = [
    "beside",
    "card",
    "facts",
    "figure",
    "page",
    "picture",
    "player",
    "section",
    "step_legend",
    "table",
    "tag",
    "traced",
]

STEPS = 8
"""Colours for the steps of a block; the last one stands for all later steps too."""


def page(title: str, lead: str, body: Iterable[str], over: str = "", foot: str = "", replay: bool = False) -> str:
    """The whole document. title, over: text. lead, body, foot: HTML. replay: with the script that plays traces."""
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    script = files(__package__).joinpath("replay.js").read_text(encoding="utf-8") if replay else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header class="top"><p class="over">{escape(over)}</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{lead}</p></header>\n'
        f"<main>\n{''.join(body)}</main>\n<footer>{foot}</footer>\n"
        + (f"<script>\n{script}</script>\n" if script else "")
        + "</body>\n</html>\n"
    )


def section(title: str, *parts: str, act: str = "") -> str:
    """A heading and what belongs under it. act: a number before the heading."""
    number = f'<span class="act">{escape(act)}</span>' if act else ""
    return f"<section><h2>{number}{escape(title)}</h2>{''.join(parts)}</section>\n"


def beside(*parts: str, two: bool = False) -> str:
    """Parts side by side where there is room. two: at most two in a row."""
    return f'<div class="side{" two" if two else ""}">{"".join(parts)}</div>'


def card(*parts: str, title: str = "", about: str = "", style: int | None = None) -> str:
    """A box. style: the colour of a contestant, as in plots."""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    head += f'<p class="about">{escape(about)}</p>' if about else ""
    return f'<div class="card{"" if style is None else f" s{style}"}">{head}{"".join(parts)}</div>'


def facts(rows: Iterable[tuple[str, str, str]]) -> str:
    """Names and numbers: (name, number, a remark in small or nothing)."""
    items = (
        f"<dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(note)}</small>' if note else ''}</dd>"
        for name, value, note in rows
    )
    return f'<dl class="facts">{"".join(items)}</dl>'


def figure(drawing: str, caption: str) -> str:
    """A drawing with a line under it."""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def picture(axes: Axes, alt: str, width: int) -> str:
    """A matplotlib drawing as an image inside the page. alt: what it shows. width: in pixels, where there is room."""
    from .pictures import figure_svg

    drawn: Any = axes.get_figure()
    data = base64.b64encode(figure_svg(drawn).encode()).decode()
    return f'<img class="picture" width="{width}" alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], raw: Sequence[int] = ()) -> str:
    """A table; columns of numbers stand to the right. raw: columns that are HTML already."""
    lines = [list(row) for row in rows]
    numeric = [bool(lines) and all(str(row[i])[:1] in "0123456789-–+" for row in lines) for i in range(len(head))]
    right = [i not in raw and numeric[i] for i in range(len(head))]
    mark = [' class="n"' if r else "" for r in right]
    heads = "".join(f"<th{m}>{escape(h)}</th>" for h, m in zip(head, mark, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{mark[i]}>{c if i in raw else escape(str(c))}</td>' for i, c in enumerate(row))}</tr>"
        for row in lines
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def tag(verdict: str) -> str:
    """A verdict, or whether a condition held, in its colour."""
    kind = {"reproduced": "good", "held": "good", "in part": "some"}.get(verdict, "bad")
    return f'<span class="tag {kind}">{escape(verdict)}</span>'


def traced(trace: Trace) -> str:
    """A completion behind its prompt, every token in the colour of the step of its block that fixed it.

    In blocks of one token there is only one step, and no colour.
    """
    parts = []
    for place, token in enumerate(trace.tokens, trace.start):
        chance = f"{100 * math.exp(token.log_prob):.0f}%"
        tip = f"forward {token.forward}, step {token.step} of its block, probability {chance}"
        look = f"t f{min(token.step, STEPS)}" if trace.block_size > 1 else "t"
        data = f'data-f="{token.forward}" data-b="{place // trace.block_size}"'
        parts.append(f'<span class="{look}" {data} title="{tip}">{escape(token.text)}</span>')
    return f'<pre class="text"><span class="given">{escape(trace.prompt)}</span>{"".join(parts)}</pre>'


def step_legend(steps: int) -> str:
    """What the colours of ``traced`` mean."""
    items = (f'<span><i class="f{s}"></i>step {s}</span>' for s in range(1, min(steps, STEPS) + 1))
    return f'<p class="steps">fixed in {"".join(items)}<span>grey: no choice, one token per forward</span></p>'


def player(target: str, forwards: int) -> str:
    """A button and a slider that replay the traces inside the element with the id ``target``."""
    return (
        f'<div class="player" data-for="{escape(target)}"><button type="button">Play</button>'
        f'<input type="range" min="0" max="{forwards}" value="{forwards}" aria-label="forward">'
        "<output>finished</output></div>"
    )
