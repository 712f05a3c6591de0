"""What the commands that train share: what is said before and after, and what an interrupt says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command import leader
from .console import facts, print_json, say

if TYPE_CHECKING:
    from ..model import Model
    from ..training.settings import TrainSettings

__all__ = ["announce", "finished", "resumable"]


def announce(about: dict[str, Any], training: TrainSettings, data: str, length: int) -> None:
    """What a run is made of, on stderr, before it begins. length: tokens of a row."""
    import torch

    from ..training.state import latest

    processes = int(os.environ.get("WORLD_SIZE") or 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = latest(training.out / "training" / "checkpoints")
    about = about | {
        "data": data,
        "tokens per step": f"{training.batch_rows * length:,} ({training.batch_rows} rows of {length})",
        "steps": training.steps if not training.seconds else f"{training.steps:,}, or {training.seconds:g} s",
        "on": f"{processes} x {device}, {training.autocast(device)}",
        "out": f"{training.out}{f', resumed from {found.name}' if found else ''}",
    }
    facts(about)


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Say at an interrupt how the run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        from ..training.state import latest

        found = latest(out / "training" / "checkpoints")
        how = f"goes on from {found}" if found else "starts anew: there is no checkpoint yet"
        raise KeyboardInterrupt(f"the same command {how}") from None


def finished(model: Model, training: TrainSettings, as_json: bool) -> None:
    """Where the model lies, what was measured of it last, and what to do with it."""
    if not leader():
        return
    lines = (training.out / "training" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1]) if lines else {}
    if as_json:
        block_size = model.checkpoint.block_size
        print_json({"out": str(training.out), "system": model.system.name, "block_size": block_size, **last})
        return
    print(f"{training.out} holds the model: {model.system.title}, in the format {model.checkpoint.family}")
    if model.system.family != "text":
        say(f"try it    interlace sample --model {training.out}")
        return
    say(f"try it    interlace generate --model {training.out} 'def area(width, height):'")
    say(f"measure   interlace evaluate {training.out}")
