"""Act 2: the same held-out prompts for the base, the model adapted just now, and the twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..evaluation import frontier, likelihood, pieces
from ..evaluation.infilling import Fillings
from ..model import Model
from ..report.demo import Contestant
from ..report.terminal import COLOURS, Terminal
from ..report.trace import trace
from ..worlds.corpus import Document
from ..worlds.verifiers import Prompt
from .settings import QuickstartSettings

__all__ = ["comparing"]

PIECES, CHARACTERS, DRAWS = 16, 900, 2
ALONE = 3
"""Prompts that run one at a time, for the speed; the others run as one batch."""


def comparing(
    settings: QuickstartSettings,
    terminal: Terminal,
    models: Mapping[str, Model],
    documents: Sequence[Document],
    prompts: Sequence[Prompt],
) -> list[Contestant]:
    """Let the models write side by side, then measure them: likelihood, and the frontier over the thresholds."""
    terminal.act("2", "Compare", f"The same held-out prompts for every model, at threshold {settings.threshold:g}.")
    shown = prompts[: settings.shown]
    traces = [
        terminal.race(list(models), [trace(m, p.text, settings.length, settings.seed) for m in models.values()])
        for p in shown
    ]
    held_out = pieces(documents, PIECES, CHARACTERS, settings.seed)
    contestants = []
    for style, (name, model) in enumerate(models.items()):
        size = model.parts.layout.size
        with terminal.waiting(f"measuring: {name}"):
            cost = likelihood(model, held_out, draws=DRAWS, seed=settings.seed)
            points = frontier(
                model, prompts, (), settings.sweep, settings.length, len(prompts), settings.seed, alone=ALONE
            )
        contestants.append(
            Contestant(
                name=name,
                about="one token after the other" if size == 1 else f"{model.system.title}, blocks of {size} tokens",
                style=style,
                system=model.system.name,
                parameters=sum(p.numel() for p in model.network.parameters()),
                block_size=size,
                likelihood=cost,
                points=points,
                fillings=Fillings((), 0.0, settings.seed, "left side", {}),
                traces=[row[style] for row in traces],
            )
        )
    _print(terminal, contestants)
    terminal.say(
        f"  {len(prompts)} prompts x {settings.length} tokens, greedy, float32, seed {settings.seed}; speed of the "
        f"first {ALONE}, one at a time; cost on {PIECES} held-out pieces (<=: an upper bound)",
        "dim",
    )
    just, twin = (contestant.at(settings.threshold).tokens_per_forward for contestant in contestants[1:])
    terminal.say(
        f"  minutes teach a model to fill masks, hours to be sure of several at once: {just:.2f} tokens per forward "
        f"just adapted, {twin:.2f} of the twin, which the same command adapted for hours",
        "dim",
    )
    return contestants


def _print(terminal: Terminal, contestants: Sequence[Contestant]) -> None:
    head = ["model", "threshold", "nats per token", "parses", "tokens per forward", "tokens per second"]
    rows, styles = [], []
    for contestant in contestants:
        cost = contestant.likelihood
        sign = "<= " if cost.kind == "bound" else ""
        for number, point in enumerate(contestant.points):
            rows.append(
                [
                    contestant.name if number == 0 else "",
                    "" if point.threshold is None else f"{point.threshold:g}",
                    f"{sign}{cost.nats:.3f} ± {cost.standard_error:.3f}" if number == 0 else "",
                    f"{point.parse_rate:.0%}",
                    f"{point.tokens_per_forward:.2f}",
                    f"{point.tokens_per_second:,.0f}",
                ]
            )
            styles.append(COLOURS[contestant.style])
    terminal.table(head, rows, styles)
