"""The progress bar of a run: loss, held-out loss, tokens per second, time left."""

from __future__ import annotations

import sys
import time
from typing import Any

__all__ = ["Progress"]


class Progress:
    """A live bar in a terminal; elsewhere one line every 20 seconds and at every evaluation."""

    def __init__(self, steps: int, start: int, enabled: bool = True) -> None:
        self.steps, self.start, self.enabled = steps, start, enabled
        self.live = enabled and sys.stderr.isatty()
        self.bar: Any = None
        self.task: Any = None
        self.began = self.said = time.monotonic()
        self.held: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task("training", total=self.steps, completed=self.start, facts="")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, facts: dict[str, Any]) -> None:
        if not self.enabled:
            return
        known = ("step", "loss", "learning_rate", "gradient_norm", "tokens_per_second", "seconds")
        fresh = {k: v for k, v in facts.items() if k not in known and not k.endswith("standard_error")}
        self.held |= fresh
        text = f"loss {facts['loss']:.3f}  {facts['tokens_per_second']:,.0f} tokens/s"
        text += "".join(f"  {k.replace('_', ' ')} {v:.3f}" for k, v in self.held.items())
        step = facts["step"]
        if self.bar is not None:
            self.bar.update(self.task, completed=step, facts=text)
        elif fresh or time.monotonic() - self.said > 20 or step == self.steps:
            self.said = time.monotonic()
            left = (self.said - self.began) / max(1, step - self.start) * (self.steps - step)
            print(f"step {step}/{self.steps}  {text}  {left / 60:.1f} min left", file=sys.stderr, flush=True)
