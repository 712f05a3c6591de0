"""The three acts in order, and what they leave behind."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, SettingError
from .settings import QuickstartSettings

if TYPE_CHECKING:
    from ..model import Model
    from ..report.terminal import Terminal

__all__ = ["quickstart"]


def quickstart(settings: QuickstartSettings | None = None, terminal: Terminal | None = None) -> dict[str, Any]:
    """Run the three acts and return the numbers of ``report.json``.

    Raises ``SettingError`` and ``CheckpointError`` for models that do not fit, ``DataError`` for an unwritable folder.

    >>> quickstart(QuickstartSettings(seconds=30, out="demo"))      # doctest: +SKIP
    """
    settings = settings or QuickstartSettings()
    began = time.monotonic()
    _check_place(settings.out)

    from .. import __version__
    from ..checkpoints import save
    from ..claims.protocol import Machine
    from ..report.demo import Demo
    from ..report.demo_page import demo_page
    from ..report.files import write_whole
    from ..report.terminal import Terminal
    from ..worlds.corpus import standard_library
    from ..worlds.verifiers import code_prompts, infill_cases
    from .adapting import adapting
    from .comparing import comparing
    from .filling import filling

    terminal = terminal or Terminal()
    minutes = max(1, round((settings.seconds + 90) / 60))
    terminal.say("Interlace quickstart", "bold")
    terminal.say(
        f"An autoregressive model becomes a block-diffusion model: three acts, about {minutes} minutes on two cores.",
        "dim",
    )
    with terminal.waiting("opening the models, reading the standard library"):
        base, twin = _open(settings)
        documents = list(standard_library("heldout"))
        prompts = code_prompts(documents, settings.prompts, base.tokenizer, 96, settings.seed)
        cases = infill_cases(documents, settings.holes, base.tokenizer, settings.seed, max_tokens=40)

    clock = _Clock(began)
    adapted, adaptation = adapting(settings, terminal, twin, documents, prompts)
    save(adapted.checkpoint, settings.out / "model")
    clock.stop("adapting")
    models = {"base": base, "just adapted": adapted, "twin": twin}
    contestants = comparing(settings, terminal, models, documents, prompts)
    clock.stop("comparing")
    filling(settings, terminal, models, contestants, cases)
    clock.stop("infilling")

    demo = Demo(
        contestants=contestants,
        adaptation=adaptation,
        cases=cases,
        threshold=settings.threshold,
        seed=settings.seed,
        prompts=settings.prompts,
        length=settings.length,
        machine=Machine.here(),
        version=__version__,
        date=datetime.now(UTC).date().isoformat(),
        seconds=clock.parts | {"all": round(time.monotonic() - began, 1)},
    )
    numbers = demo.numbers()
    write_whole(settings.out / "report.json", json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    page = write_whole(settings.out / "report.html", demo_page(demo))
    terminal.say()
    terminal.say(f"Done in {time.monotonic() - began:.0f} s.", "bold")
    terminal.files(
        [
            (page, "the report: plots, pictures, every completion; open it in a browser"),
            (settings.out / "report.json", "its numbers"),
            (settings.out / "model", "the model adapted just now, in SDAR's format"),
        ]
    )
    terminal.say(f"Next: interlace generate 'def area(width, height):' --model {settings.out / 'model'}", "dim")
    return numbers


class _Clock:
    """Seconds of every part."""

    def __init__(self, began: float) -> None:
        self.last, self.parts = began, dict[str, float]()

    def stop(self, name: str) -> None:
        now = time.monotonic()
        self.parts[name], self.last = round(now - self.last, 1), now


def _check_place(out: Path) -> None:
    """Refuse a folder that cannot be written before the work, and not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(f"{out} cannot be written ({why}); pass another folder with --out") from None


def _open(settings: QuickstartSettings) -> tuple[Model, Model]:
    """Base and twin, in float32: speeds are compared at one precision."""
    import torch

    from ..model import load
    from ..systems.system import TextSettings

    base = load(settings.base, dtype=torch.float32)
    twin = load(settings.twin, dtype=torch.float32, threshold=settings.threshold)
    if base.system.denoises:
        raise SettingError(f"{settings.base} is a {base.system.name} model; pass an autoregressive one with --base")
    if not twin.system.denoises or not isinstance(twin.settings, TextSettings):
        raise SettingError(f"{settings.twin} is no block-diffusion model of text; pass one with --twin")
    for name, model in ((settings.base, base), (settings.twin, twin)):
        if model.tokenizer is None:
            raise SettingError(f"{name} has no tokenizer.json; add the tokenizer's files beside config.json")
    return base, twin
