"""What the commands that train share: what is said before and after, and what an interrupt says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import leader
from .console import facts, print_json, say

if TYPE_CHECKING:
    from ..lora import Lora, LoraSettings
    from ..model import Model
    from ..training.settings import TrainSettings

__all__ = ["adapters", "announce", "finished", "learning", "resumable"]


def adapters(settings: Mapping[str, Any]) -> LoraSettings | None:
    """The low-rank adapters that the options ask for. ``SettingError`` for options of adapters without any."""
    from ..lora import LoraSettings
    from .config import make
    from .settings import LORA

    if settings["lora"] is not None:
        return make(LoraSettings, settings)
    idle = next((s for s in LORA if settings.get(s.name, s.default) != s.default), None)
    if idle is not None:
        raise SettingError(f"{idle.flag} is about low-rank adapters, and there are none; pass --lora RANK too")
    return None


def learning(network: Any, training: TrainSettings, adapters: Lora | None) -> dict[str, str]:
    """How many parameters there are, how many are learnt, and the memory that they take."""
    from ..training.optimizers import held_bytes

    every = list(network.named_parameters())
    whole = sum(p.numel() for _, p in every)
    weights = sum(p.numel() * p.element_size() for _, p in every)
    held = held_bytes(every, training.optimizer, training.ema > 0)
    about = {"parameters": f"{whole:,}"}
    if adapters is not None:
        mine = adapters.learnt
        about["parameters"] = f"{whole - mine:,}, frozen"
        row = f" and {len(adapters.tokens)} row of the embedding" if adapters.tokens else ""
        about["learnt"] = (
            f"{mine:,} ({mine / (whole - mine):.2%}): adapters of rank {adapters.settings.lora}, alpha "
            f"{adapters.settings.alpha:g}, on {', '.join(adapters.names)}{row}"
        )
    shared = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and int(os.environ.get("WORLD_SIZE") or 1) > 1
    where = "over all processes" if shared else "in every process"
    about["memory"] = f"{_size(weights)} of weights, {_size(held)} to learn them, {where}; activations not counted"
    return about


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


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


def finished(model: Model, training: TrainSettings, as_json: bool, lora: LoraSettings | None = None) -> None:
    """Where the model lies, what was measured of it last, and what to do with it."""
    if not leader():
        return
    out = training.out
    if lora is not None:
        from ..recipes import ADAPTER

        alone = out / ADAPTER
        out = out if lora.merge else alone
    lines = (training.out / "training" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1]) if lines else {}
    if as_json:
        block_size = model.checkpoint.block_size
        print_json({"out": str(out), "system": model.system.name, "block_size": block_size, **last})
        return
    what = "the model" if out == training.out else "the adapters"
    print(f"{out} holds {what}: {model.system.title}, in the format {model.checkpoint.family}")
    if model.system.family != "text":
        say(f"try it    interlace sample --model {out}")
        return
    if lora is not None and lora.merge:
        say(f"adapters  {alone}")
    say(f"try it    interlace generate --model {out} 'def area(width, height):'")
    say(f"measure   interlace evaluate {out}")
