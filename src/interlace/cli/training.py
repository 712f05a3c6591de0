"""What the commands that train share: what is said before and after, and what an interrupt says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command import leader
from .console import print_json, say

if TYPE_CHECKING:
    from ..model import Model
    from ..training.settings import TrainSettings

__all__ = ["announce", "finished", "resumable"]


def announce(facts: dict[str, Any]) -> None:
    """What a run is made of, a line each, on stderr."""
    wide = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{wide}}  {value:,}" if isinstance(value, int) else f"{name:<{wide}}  {value}")


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Say at an interrupt how the run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"start the same command again to go on from the last checkpoint in {out / 'training' / 'checkpoints'}"
        ) from None


def finished(model: Model, training: TrainSettings, as_json: bool) -> None:
    """Where the model lies, what was measured of it last, and what to do with it."""
    if not leader():
        return
    lines = (training.out / "training" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1]) if lines else {}
    if as_json:
        print_json({"model": str(training.out), "system": model.system.name, "block_size": model.checkpoint.block_size, **last})
        return
    print(f"{training.out} holds the model ({model.system.title}, format {model.checkpoint.family})")
    say(f"try it:   interlace generate --model {training.out} 'def area(width, height):'")
    say(f"measure:  interlace evaluate {training.out}")
