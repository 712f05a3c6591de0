"""interlace quickstart"""

from __future__ import annotations

from typing import Any

from .command import Setting, command
from .console import print_json

# A test compares them with the fields of QuickstartSettings.
QUICKSTART = (
    Setting("base", str, "autoregressive model to start from: a folder, or the bundled base", "base"),
    Setting("twin", str, "its twin after a long adaptation: a folder, or the bundled twin", "twin"),
    Setting("out", str, "folder for the adapted model, report.html and report.json", "quickstart"),
    Setting("seconds", float, "time for the adaptation", 110.0),
    Setting("seed", int, "seed of the training, of the held-out sample and of all masks", 0),
    Setting("prompts", int, "held-out prompts that every model completes", 16, panel="Measure"),
    Setting("length", int, "tokens of a completion", 48, panel="Measure"),
    Setting("holes", int, "held-out holes that every model fills", 16, panel="Measure"),
    Setting("thresholds", list[float], "thresholds of the sweep", [1.0, 0.9, 0.8, 0.6], panel="Measure"),
    Setting("threshold", float, "threshold of all that is not part of the sweep", 0.9, panel="Measure"),
    Setting("shown", int, "prompts whose completions are shown while they are written", 3, panel="Measure"),
    Setting("block_size", int, "tokens per block; by default that of the twin", panel="Adapt"),
    Setting("batch_rows", int, "rows per optimizer step of the adaptation", 8, panel="Adapt"),
    Setting("row_length", int, "tokens per row of the adaptation", 256, panel="Adapt"),
    Setting("learning_rate", float, "peak learning rate of the adaptation", 1e-3, panel="Adapt"),
)


@command(*QUICKSTART, panel="Start here")
def quickstart(json: bool, **settings: Any) -> None:
    """See it all in minutes: adapt a model, compare it, and fill holes with it.

    Act 1 adapts the bundled autoregressive model to block diffusion on the local
    standard library. Act 2 lets the base, the model adapted just now and the
    bundled twin complete the same prompts, and measures loss, parse rate and
    speed over thresholds. Act 3 fills holes in files. It leaves the adapted
    model, its numbers and one HTML report in --out.

    [bold]Examples[/bold]
      interlace quickstart
      interlace quickstart --seconds 30 --prompts 8 --holes 8 --out demo
    """
    from ..quickstart import QuickstartSettings
    from ..quickstart import quickstart as run
    from .config import make

    chosen = make(QuickstartSettings, settings)
    if not json:
        run(chosen)
        return
    from rich.console import Console

    from ..report.terminal import Terminal

    # what is shown on the way is no result
    print_json(run(chosen, Terminal(Console(stderr=True, highlight=False))))
