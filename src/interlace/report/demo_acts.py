"""The three acts of a quickstart's report: the adaptation, the comparison, the holes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from .html import beside, card, figure, player, section, step_legend, table, traced
from .plots import Bar, Series, bars, chart

if TYPE_CHECKING:
    from ..worlds.verifiers import InfillCase
    from .demo import Contestant, Demo

__all__ = ["adaptation", "comparison", "completions", "holes"]


def adaptation(demo: Demo) -> str:
    """Act 1: loss, bound and tokens per forward over the seconds."""
    run, probe = demo.adaptation, demo.adaptation.probe
    steps = [(s["seconds"], s["loss"]) for s in run.steps]
    bound = [(p["seconds"], p["bound"]) for p in run.probes]
    wide = [1.96 * p["standard_error"] for p in run.probes]
    low, high = ([v + sign * w for (_, v), w in zip(bound, wide, strict=True)] for sign in (-1, 1))
    speed = [(p["seconds"], p["tokens_per_forward"]) for p in run.probes]
    seconds = "seconds of adaptation"
    cost = chart(
        [
            Series("training loss of every step", steps, style=1, marks=False, faint=True),
            Series("held-out bound, with 95% intervals", bound, style=1, low=low, high=high),
        ],
        seconds,
        "nats per token",
        "training loss and held-out bound of the model being adapted",
        x_from=0.0,
    )
    fast = chart(
        [Series("tokens per forward", speed, style=1)],
        seconds,
        "tokens per forward",
        "tokens per forward of the model being adapted",
        y_from=1.0,
        y_to=1.1,
        x_from=0.0,
    )
    lead = (
        f"{len(run.steps):,} steps of {run.settings['batch_rows']} rows of {run.data['length']} tokens, "
        f"{run.tokens:,} tokens in all, starting from the weights of the base. {run.data['suffix_first']:.0%} of the "
        "documents are read suffix first, which teaches the model to fill holes."
    )
    left = (
        f"just adapted; the bound on the same {probe['pieces']} held-out pieces all along, {probe['draws']} draws each"
    )
    right = (
        f"just adapted; {probe['prompts']} held-out prompts x {probe['length']} tokens, threshold {demo.threshold:g}, "
        "greedy"
    )
    return section(
        "Adapt",
        f"<p>{escape(lead)}</p>",
        beside(
            card(figure(cost, left), title="What a token costs"),
            card(figure(fast, right), title="What a forward yields"),
            two=True,
        ),
        act="1",
    )


def comparison(demo: Demo) -> str:
    """Act 2: quality against speed, in plots and as a table."""
    series, rows, speeds = [], [], []
    for c in demo.contestants:
        ranges = [p.completions.parse_interval for p in c.points]
        series.append(
            Series(
                c.name,
                [(p.tokens_per_forward, p.parse_rate) for p in c.points],
                c.style,
                low=[low for low, _ in ranges],
                high=[high for _, high in ranges],
                labels=["" if p.threshold is None else f"{p.threshold:g}" for p in c.points],
            )
        )
        for p, (low, high) in zip(c.points, ranges, strict=True):
            threshold = "–" if p.threshold is None else f"{p.threshold:g}"
            name = c.name if p.threshold is None else f"{c.name}, {threshold}"
            speeds.append(Bar(name, p.tokens_per_second, f"{p.tokens_per_second:,.0f}", c.style))
            rows.append(
                [
                    _named(c),
                    threshold,
                    f"{p.parse_rate:.0%} ({low:.0%} to {high:.0%})",
                    f"{p.tokens_per_forward:.2f}",
                    f"{p.completions.tokens:,} / {p.completions.forwards:,}",
                    f"{p.tokens_per_second:,.0f}",
                ]
            )
    frontier = chart(
        series,
        "tokens per forward",
        "completions that parse",
        "parse rate against tokens per forward, a curve for every model",
        y_from=0.0,
        y_to=1.0,
        percent=True,
    )
    head = ["model", "threshold", "parse (95%)", "tokens per forward", "tokens / forwards", "tokens per second"]
    lead = (
        f"The same {demo.prompts} prompts from held-out files for every model, {demo.length} tokens each, greedy. A "
        "lower threshold fixes more tokens at once and is less careful: a curve is one model from its surest to its "
        "fastest."
    )
    return section(
        "Compare",
        f"<p>{escape(lead)}</p>",
        beside(
            card(
                figure(frontier, "Bars: 95% intervals. Small numbers: the threshold of the point."),
                title="Quality against speed",
            ),
            card(
                figure(
                    bars(speeds, "tokens per second of every model"), "One prompt at a time, float32; model, threshold."
                ),
                title="Tokens per second on this machine",
            ),
            two=True,
        ),
        table(head, rows, raw=(0,)),
        act="2",
    )


def completions(demo: Demo) -> str:
    """What the models write behind the same prompts, with a replay; all completions below."""
    forwards = max((t.forwards for c in demo.contestants for t in c.traces), default=0)
    records = demo.contestants[0].at(demo.threshold).completions.records
    shown = []
    for number in range(min(len(c.traces) for c in demo.contestants)):
        cards = []
        for c in demo.contestants:
            t = c.traces[number]
            about = f"{t.forwards} forwards, {t.tokens_per_forward:.2f} tokens per forward"
            cards.append(card(traced(t), title=c.name, about=about, style=c.style))
        shown.append(f"<h3>{escape(records[number].name)}</h3>{beside(*cards)}")
    lead = (
        f"The first {len(shown)} of the {demo.prompts} prompts, not the best ones. The prompt is grey. The colour of a "
        f"token tells in which step of its block it was fixed, at threshold {demo.threshold:g}. Point at a token for "
        "its forward and its probability. Play shows all models at the same pace, one forward of each per tick."
    )
    every = "".join(_every(c, demo) for c in demo.contestants)
    return section(
        "What they write",
        f"<p>{escape(lead)}</p>",
        step_legend(max(c.block_size for c in demo.contestants)),
        player("texts", forwards),
        f'<div id="texts">{"".join(shown)}</div>',
        f"<details><summary>All {demo.prompts} prompts and completions</summary>{every}</details>",
    )


def holes(demo: Demo) -> str:
    """Act 3: how many holes were filled exactly, two of them in full, and all of them below."""
    rows = []
    for c in demo.contestants:
        f = c.fillings
        low, high = f.exact_interval()
        rows.append(
            [
                _named(c),
                f.sees,
                f"{f.exact_match():.0%} ({low:.0%} to {high:.0%})",
                f"{f.exact_match('line'):.0%}",
                f"{f.exact_match('body'):.0%}",
                f"{f.accuracy():.0%}",
                f"{f.tokens_per_forward:.2f}",
            ]
        )
    head = ["model", "sees", "exactly (95%)", "statements", "bodies", "tokens right", "tokens per forward"]
    names = [c.name for c in demo.contestants]
    every = [
        [case.name, case.kind, *(f'<pre class="text">{escape(text)}</pre>' for text in _fillings(demo, i, case))]
        for i, case in enumerate(demo.cases)
    ]
    lead = (
        f"{len(demo.cases)} holes in held-out files, statements and function bodies in turn. Every model is told how "
        "many tokens are missing. The base cannot fill a hole: it goes on with what comes before it, for as many "
        "tokens. The block-diffusion models see what comes after as well, and leave every given token as it is."
    )
    full = table(["hole", "kind", "it was", *names], every, raw=tuple(range(2, 3 + len(names))))
    return section(
        "Infill",
        f"<p>{escape(lead)}</p>",
        table(head, rows, raw=(0,)),
        *(_hole(demo, number, title) for number, title in _shown(demo)),
        f"<details><summary>All {len(demo.cases)} holes</summary>{full}</details>",
        act="3",
    )


def _named(contestant: Contestant) -> str:
    return f'<i class="dot s{contestant.style}"></i>{escape(contestant.name)}'


def _every(contestant: Contestant, demo: Demo) -> str:
    rows = []
    for r in contestant.at(demo.threshold).completions.records:
        text = f'<pre class="text"><span class="given">{escape(_tail(r.prompt, 4))}</span>{escape(r.text)}</pre>'
        rows.append([escape(r.name), text, "yes" if r.parses else "no", f"{r.tokens} / {r.forwards}"])
    head = [contestant.name, "end of the prompt, and the completion", "parses", "tokens / forwards"]
    return table(head, rows, raw=(0, 1))


def _shown(demo: Demo) -> list[tuple[int, str]]:
    """The holes shown in full: one that the twin filled exactly (a body if there is one), and the first body."""
    twin = demo.contestants[-1].fillings.records
    exact = [i for i, record in enumerate(twin) if record.exact]
    bodies = [i for i, case in enumerate(demo.cases) if case.kind == "body"]
    best = next((i for i in exact if i in bodies), exact[0] if exact else None)
    shown = [] if best is None else [(best, "The first hole that the twin filled exactly")]
    if best in bodies:
        shown = [(best, "The first function body that the twin filled exactly")]
    return shown + [
        (i, "The first function body of the sample, whatever became of it") for i in bodies[:1] if i != best
    ]


def _hole(demo: Demo, number: int, title: str) -> str:
    case = demo.cases[number]
    before, after = escape(_tail(case.prefix, 9)), escape("\n".join(case.suffix.split("\n")[:7]))

    def text(filling: str, look: str) -> str:
        inside = f'<span class="{look}">{escape(filling)}</span>'
        return f'<pre class="text"><span class="given">{before}</span>{inside}<span class="given">{after}</span></pre>'

    indent = case.middle[: len(case.middle) - len(case.middle.lstrip())].split("\n")[-1]
    hole = f"\n{indent}░░░░░░░░░░░░" * max(1, case.middle.strip("\n").count("\n") + 1)
    cards = [card(text(hole, "hole"), title="the hole", about=f"{case.name}, a {_kind(case)}")]
    for c in demo.contestants:
        record = c.fillings.records[number]
        about = "as it was" if record.exact else f"{record.right} of {record.tokens} tokens as they were"
        about += ", without a look at what comes after" if not c.fillings.sees_suffix else ""
        cards.append(card(text(record.text, "filled"), title=c.name, about=about, style=c.style))
    return f"<h3>{escape(title)}</h3>{beside(*cards, two=True)}"


def _kind(case: InfillCase) -> str:
    return "function's body" if case.kind == "body" else "statement"


def _fillings(demo: Demo, number: int, case: InfillCase) -> Sequence[str]:
    return [text.strip("\n") for text in (case.middle, *(c.fillings.records[number].text for c in demo.contestants))]


def _tail(text: str, lines: int) -> str:
    return "\n".join(text.split("\n")[-lines:])
