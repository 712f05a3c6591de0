"""The quickstart in a terminal: live while it runs; where there is no terminal, the same as plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..worlds.verifiers import InfillCase
    from .trace import Trace

__all__ = ["COLOURS", "Adapting", "Terminal"]

COLOURS = ("blue", "yellow", "magenta")
"""Of the base, the model adapted just now, and the twin."""

SPARK = "▁▂▃▄▅▆▇█"


class Terminal:
    """Where the quickstart speaks: ``live`` says whether lines can be redrawn."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live = self.console.is_terminal
        if not self.live:
            self.console.width = max(self.console.width, 110)

    def say(self, text: str = "", style: str = "") -> None:
        self.console.print(Text(text, style=style))

    def act(self, number: str, title: str, about: str) -> None:
        """The head of an act."""
        self.console.print()
        self.console.print(Text.assemble((f"{number}  ", "bold cyan"), (title, "bold")))
        self.console.print(Text(about, style="dim"))

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Something takes a while: a spinner, or a line."""
        if self.live:
            with self.console.status(Text(text, style="dim")):
                yield
        else:
            self.say(f"  {text} ...")
            yield

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """A table; all columns but the first are numbers."""
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, name in enumerate(head):
            drawn.add_column(name, justify="right" if number else "left", no_wrap=True)
        for number, row in enumerate(rows):
            drawn.add_row(*row, style=styles[number] if number < len(styles) else "")
        self.console.print(drawn)

    def hole(self, case: InfillCase, fillings: Mapping[str, str]) -> None:
        """A hole with its surroundings, and what was put into it, side by side."""
        before, after = "\n".join(case.prefix.split("\n")[-4:]), "\n".join(case.suffix.split("\n")[:3])
        shown = {"it was": case.middle, **fillings}
        colours = dict(zip(shown, ("white", *COLOURS), strict=False))
        panels = []
        for name, text in shown.items():
            body = Text.assemble((before, "dim"), (text, "bold"), (after, "dim"))
            panels.append(Panel(body, title=name, border_style=colours[name], box=box.ROUNDED))
        self.console.print(_arranged(panels, self.console.width))

    def files(self, found: Sequence[tuple[Path, str]]) -> None:
        """What was written, and what it is."""
        wide = max(len(str(path)) for path, _ in found)
        for path, what in found:
            self.console.print(Text.assemble(f"  {path!s:<{wide}}", (f"   {what}", "dim")))

    def race(self, names: Sequence[str], streams: Sequence[Iterator[Trace]]) -> list[Trace]:
        """Let several models write side by side, one forward of each per tick; gives the finished traces."""
        last: list[Trace | None] = [None] * len(streams)
        alive = dict(enumerate(streams))

        def tick() -> None:
            for number, stream in list(alive.items()):
                found = next(stream, None)
                if found is None:
                    del alive[number]
                else:
                    last[number] = found

        if self.live:
            with Live(console=self.console, refresh_per_second=30, transient=False) as screen:
                while alive:
                    began = time.monotonic()
                    tick()
                    screen.update(self._panels(names, last))
                    time.sleep(max(0.0, 0.05 - (time.monotonic() - began)))  # slowly enough to be seen
        else:
            while alive:
                tick()
            self.console.print(self._panels(names, last))
        return [trace for trace in last if trace is not None]

    def _panels(self, names: Sequence[str], traces: Sequence[Trace | None]) -> RenderableType:
        panels = []
        for number, (name, trace) in enumerate(zip(names, traces, strict=True)):
            text, facts = Text(), ""
            if trace is not None:
                # the prompt is cut, so that three of them fit on a screen
                text.append("\n".join(trace.prompt.split("\n")[-6:]), style="dim")
                for token in trace.tokens:
                    text.append("░░" if token.open else token.text, style="dim" if token.open else "bold")
                facts = f"{trace.forwards} forwards, {trace.tokens_per_forward:.2f} tokens per forward"
            colour = COLOURS[number % len(COLOURS)]
            panels.append(Panel(text, title=name, subtitle=facts, border_style=colour, box=box.ROUNDED))
        return _arranged(panels, self.console.width)


def _arranged(panels: Sequence[Panel], width: int) -> RenderableType:
    """Side by side as many as have room, at least 36 columns each; the rest below."""
    many = max(1, min(len(panels), width // 36))
    many = -(-len(panels) // -(-len(panels) // many))  # rows of equal length
    beside = Table.grid(expand=True)
    for _ in range(many):
        beside.add_column(ratio=1)
    for first in range(0, len(panels), many):
        beside.add_row(*panels[first : first + many])
    return beside


class Adapting:
    """The first act while it runs: a bar of the time, the training loss, and what the probes measure.

    Give ``log`` to the training loop as ``on_log``. measured: the probes' names, and how they are called here.
    """

    def __init__(self, terminal: Terminal, seconds: float, measured: dict[str, str]) -> None:
        self.terminal, self.seconds, self.measured = terminal, seconds, measured
        self.history: dict[str, list[float]] = {name: [] for name in measured}
        self.facts: dict[str, Any] = {}
        self.began = self.said = time.monotonic()
        self.screen: Live | None = None

    def __enter__(self) -> Adapting:
        self.began = time.monotonic()
        if self.terminal.live:
            self.screen = Live(get_renderable=self._draw, console=self.terminal.console, refresh_per_second=4)
            self.screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.screen is not None:
            self.screen.stop()

    def start(self, measured: dict[str, float]) -> None:
        """The clock starts; this was measured before."""
        self.began = time.monotonic()
        self.log({"step": 0, **measured})

    def log(self, facts: dict[str, Any]) -> None:
        """A step of training."""
        self.facts |= facts
        fresh = False
        for name in self.measured:
            if name in facts:
                self.history[name].append(facts[name])
                fresh = True
        if self.screen is None and (fresh or time.monotonic() - self.said > 20):
            self.said = time.monotonic()
            self.terminal.say("  " + self._line(fresh))

    def _line(self, fresh: bool) -> str:
        parts = [f"{min(time.monotonic() - self.began, self.seconds):4.0f} s", f"step {self.facts.get('step', 0)}"]
        if "loss" in self.facts:
            parts += [f"loss {self.facts['loss']:.3f}", f"{self.facts['tokens_per_second']:,.0f} tokens/s"]
        if fresh:
            parts += [f"{label} {self.history[name][-1]:.3f}" for name, label in self.measured.items()]
        return "  ".join(parts)

    def _draw(self) -> RenderableType:
        spent = min(time.monotonic() - self.began, self.seconds)
        bar = Table.grid(padding=(0, 1))
        facts = f"step {self.facts.get('step', 0)}"
        if "loss" in self.facts:
            facts += f"   loss {self.facts['loss']:.3f}   {self.facts['tokens_per_second']:,.0f} tokens/s"
        clock = f"{spent:3.0f} / {self.seconds:.0f} s"
        bar.add_row(ProgressBar(total=self.seconds, completed=spent, width=36), clock, Text(facts, style="dim"))
        probes = Table.grid(padding=(0, 2))
        for name, label in self.measured.items():
            values = self.history[name]
            shown = "  ".join(f"{value:.2f}" for value in values[-7:])
            probes.add_row(Text(label, style="dim"), Text(_spark(values), style="cyan"), Text(shown, style="bold"))
        return Group(bar, probes)


def _spark(values: Sequence[float]) -> str:
    """A line of little bars."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return "".join(SPARK[round((v - low) / (high - low or 1.0) * (len(SPARK) - 1))] for v in values[-16:])
