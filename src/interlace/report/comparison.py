"""One page that puts models side by side: the frontier of quality and speed, and what each costs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from .html import beside, card, figure, page, section, table
from .plots import Bar, Series, bars, chart

__all__ = ["comparison_page", "memory"]

STYLES = 8


def memory(models: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What models take, over all their points: names of the columns, and a row for every model.

    Megabytes of the weights, bytes of the cache per token, token slots per new token (lowest and highest), and the most
    token slots of a row in one forward: the first, which reads the prompt, and any later one. That is what activations
    grow with. Where a GPU measured it, also the megabytes in use at most beyond the weights.
    """
    head = ["weights MB", "cache bytes per token", "slots per token", "largest forward", "later"]
    rows = []
    for model in models:
        points = model["points"]
        slots = [point["slots_per_token"] for point in points]
        least, most = min(slots, default=0.0), max(slots, default=0.0)
        spread = f"{least:.2f}" if most - least < 0.005 else f"{least:.2f} to {most:.2f}"
        row = [f"{model['weight_bytes'] / 1e6:.1f}", f"{model['cache_bytes_per_token']:,}", spread if slots else "–"]
        row += [_most(points, f"largest_{which}_forward") for which in ("first", "later")]
        rows.append(row)
    if any(point["peak_bytes"] is not None for model in models for point in model["points"]):
        head.append("peak MB")
        for model, row in zip(models, rows, strict=True):
            row.append(_most(model["points"], "peak_bytes", 1e6))
    return head, rows


def _most(points: Sequence[dict[str, Any]], key: str, unit: float = 1.0) -> str:
    found = [point[key] for point in points if point[key] is not None]
    return f"{max(found) / unit:,.0f}" if found else "–"


def comparison_page(models: Sequence[dict[str, Any]], length: int, batch_rows: int) -> str:
    """The document, from what ``interlace evaluate --json`` gives of every model."""
    styles = {number: number % STYLES for number in range(len(models))}
    body = []
    for key, low_high, y, title in (
        ("parse_rate", "parse_interval", "completions that parse", "Completion: quality against tokens per forward"),
        ("tokens_right", None, "tokens right in holes", "Infilling: quality against tokens per forward"),
    ):
        plot = _frontier(models, styles, key, low_high, y)
        if plot:
            body.append(card(figure(plot, "Bars: 95% intervals. Small numbers: the dial of the point."), title=title))
    speeds = [
        Bar(_point(one, point), point["tokens_per_second"], f"{point['tokens_per_second']:,.0f}", styles[number])
        for number, one in enumerate(models)
        for point in one["points"]
    ]
    parts = [beside(*body, two=len(body) > 1)] if body else []
    if speeds:
        note = f"{batch_rows} prompts at once, {length} tokens each."
        parts.append(card(figure(bars(speeds, "tokens per second"), note), title="Tokens per second on this machine"))
    head = ["model", "system", "dial", "parse", "tokens right", "tokens per forward", "tokens/s", "slots per token"]
    rows = [[one["model"], one["system"], *_measured(point)] for one in models for point in one["points"]]
    taken, taking = memory(models)
    costs = [
        [one["model"], one["system"], f"{one['parameters']:,}", *row, _likelihood(one["likelihood"])]
        for one, row in zip(models, taking, strict=True)
    ]
    sections = [
        section("Frontier", *parts),
        section("Every point", table(head, rows)),
        section(
            "What each costs",
            table(["model", "system", "parameters", *taken, "nats per token"], costs),
        ),
    ]
    names = escape(", ".join(one["model"] for one in models))
    lead = f"The same held-out prompts for all of them: {names}. A curve is one model from its surest to its fastest."
    return page("Models side by side", lead, sections, over="interlace compare")


def _frontier(models: Sequence[dict[str, Any]], styles: dict[int, int], key: str, interval: str | None, y: str) -> str:
    series = []
    for number, one in enumerate(models):
        points = [point for point in one["points"] if point[key] is not None]
        if not points:
            continue
        ranges = [point[interval] for point in points] if interval else []
        series.append(
            Series(
                one["model"],
                [(point["tokens_per_forward"], point[key]) for point in points],
                styles[number],
                low=[low for low, _ in ranges],
                high=[high for _, high in ranges],
                labels=["" if point["threshold"] is None else f"{point['threshold']:g}" for point in points],
            )
        )
    if not series:
        return ""
    title = f"{y} against tokens per forward, a curve for every model"
    return chart(series, "tokens per forward", y, title, y_from=0.0, percent=True)


def _measured(point: dict[str, Any]) -> list[str]:
    return [
        _dial(point),
        _share(point["parse_rate"]),
        _share(point["tokens_right"]),
        f"{point['tokens_per_forward']:.2f}",
        f"{point['tokens_per_second']:,.0f}",
        f"{point['slots_per_token']:.2f}",
    ]


def _dial(point: dict[str, Any]) -> str:
    return "–" if point["threshold"] is None else f"{point['dial']} {point['threshold']:g}"


def _point(one: dict[str, Any], point: dict[str, Any]) -> str:
    return one["model"] if point["threshold"] is None else f"{one['model']}, {point['threshold']:g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _likelihood(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    return f"{'' if found['kind'] == 'exact' else '≤ '}{found['nats']:.3f} ± {found['standard_error']:.3f}"
