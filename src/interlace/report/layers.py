"""One page about the layers of a network: how far each turns the residual stream, and which can be left out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from .html import beside, card, figure, page, picture, section, table
from .pictures import draw_similarity
from .plots import Series, chart

if TYPE_CHECKING:
    from ..evaluation.layers import LayerAnalysis

__all__ = ["layers_page"]


def layers_page(name: str, found: LayerAnalysis, chosen: Sequence[int], threshold: float) -> str:
    """The document. chosen: the blocks that are left out; threshold: above it a block is redundant."""
    numbers = list(range(1, len(found.similarity) + 1))
    spread = list(zip(found.similarity, found.deviation, strict=True))
    turned = Series(
        "similarity",
        list(zip(numbers, found.similarity, strict=True)),
        0,
        low=[s - d for s, d in spread],
        high=[min(1.0, s + d) for s, d in spread],
        labels=["left out" if n in chosen else "" for n in numbers],
    )
    limit = Series("threshold", [(1, threshold), (len(numbers), threshold)], 3, marks=False, faint=True)
    curve = chart([turned, limit], "layer", "cosine before and behind the block", "similarity of every layer", y_to=1.0)
    others = [
        Series(what, list(zip(numbers, values, strict=True)), style)
        for style, (what, values) in enumerate(
            (("neighbours", found.neighbours), ("recency", found.recency), ("step", found.step))
        )
    ]
    more = chart(others, "layer", "", "neighbours, recency and step of every layer")
    away = Series("attention", list(zip(numbers, found.distance, strict=True)), 0)
    alike = Series("every key alike", [(1, found.uniform), (len(numbers), found.uniform)], 3, marks=False, faint=True)
    reach = chart([away, alike], "layer", "tokens", "attention distance of every layer", y_from=0.0)
    stages = [
        Series(f"{low:.0%} to {high:.0%} open", list(zip(numbers, values, strict=True)), style)
        for style, ((low, high), values) in enumerate(zip(_buckets(), found.by_ratio, strict=False))
        if values
    ]
    cards = [
        card(figure(curve, "Bars: one standard deviation over tokens."), title="How far a block turns the stream"),
        card(
            picture(draw_similarity(found.matrix), "cosine of the stream behind every two layers", 460),
            title="Layer by layer",
        ),
        card(figure(more, "Means over tokens."), title="Neighbours, recency, step"),
        card(
            figure(reach, "Mean over heads and tokens of the distance to what is attended to, weighted by attention."),
            title="How far attention looks",
        ),
    ]
    if stages:
        drawn = chart(stages, "layer", "similarity", "similarity of every layer by the share that is open", y_to=1.0)
        cards.append(card(figure(drawn, "From the first steps of denoising to the last."), title="While it denoises"))
    rows = [
        [
            n, f"{s:.4f} ± {d:.4f}", f"{step:.3f}", f"{near:.3f}", f"{recent:.3f}", f"{far:.2f}",
            "left out" if n in chosen else "",
        ]
        for n, s, d, step, near, recent, far in zip(
            numbers, found.similarity, found.deviation, found.step, found.neighbours, found.recency, found.distance,
            strict=True,
        )
    ]  # fmt: skip
    lead = f"{escape(name)}, {found.regime}: {found.tokens:,} tokens. Near 1 a block hardly turns the residual stream."
    head = ["layer", "similarity", "step", "neighbours", "recency", "attention distance", ""]
    body = [section("Layers", beside(*cards, two=True)), section("Every layer", table(head, rows))]
    return page("What the layers do", lead, body, over="interlace layers")


def _buckets() -> Sequence[tuple[float, float]]:
    from ..evaluation.layers import BUCKETS

    return BUCKETS
