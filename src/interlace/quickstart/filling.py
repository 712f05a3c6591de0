"""Act 3: holes in held-out files; what the base writes there stands beside, cut to the same length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..evaluation import infill
from ..model import Model
from ..report.demo import Contestant
from ..report.terminal import COLOURS, Terminal
from ..worlds.verifiers import InfillCase
from .settings import QuickstartSettings

__all__ = ["filling"]


def filling(
    settings: QuickstartSettings,
    terminal: Terminal,
    models: Mapping[str, Model],
    contestants: Sequence[Contestant],
    cases: Sequence[InfillCase],
) -> None:
    """Fill every hole with every model; the fillings become part of the contestants."""
    about = "A statement or a function's body is cut out of a file. The base can only go on with what comes before it."
    terminal.act("3", "Infill", about)
    rows = []
    for contestant, model in zip(contestants, models.values(), strict=True):
        with terminal.waiting(f"filling {len(cases)} holes: {contestant.name}"):
            contestant.fillings = found = infill(model, cases, settings.seed)
        shares = [found.exact_match(), found.exact_match("line"), found.exact_match("body"), found.accuracy()]
        rows.append([contestant.name, found.sees, *(f"{share:.0%}" for share in shares)])
    shown = next((i for i, case in enumerate(cases) if case.kind == "body"), 0)
    terminal.say(f"  the first function body of the sample, {cases[shown].name}", "dim")
    terminal.hole(cases[shown], {c.name: c.fillings.records[shown].text for c in contestants})
    head = ["model", "sees", "exactly as it was", "statements", "bodies", "tokens right"]
    terminal.table(head, rows, [COLOURS[c.style] for c in contestants])
