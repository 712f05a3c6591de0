"""Act 1: the base, trained on as a block-diffusion model, and what is measured on the way."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from ..evaluation import complete, likelihood, pieces
from ..model import Model
from ..recipes import adapt
from ..report.demo import Adaptation
from ..report.terminal import Adapting, Terminal
from ..training.settings import TrainSettings
from ..training.text import DataSettings
from ..worlds.corpus import Document
from ..worlds.verifiers import Prompt
from .settings import QuickstartSettings

__all__ = ["adapting"]

SHOWN = {"bound": "held-out bound, nats per token", "tokens_per_forward": "tokens per forward"}
PIECES, DRAWS, PROMPTS, LENGTH = 8, 1, 4, 24
"""Of a probe: held-out pieces and draws for the bound, prompts and their length for the tokens per forward."""

PROBES = 4
"""Probes after the first, evenly in time: on a slow machine, too, most of the time is left for the training."""


def adapting(
    settings: QuickstartSettings,
    terminal: Terminal,
    twin: Model,
    documents: Sequence[Document],
    prompts: Sequence[Prompt],
) -> tuple[Model, Adaptation]:
    """Adapt ``settings.base`` for ``settings.seconds``, with the block size of the twin unless another one is set."""
    about = f"The base learns to fill masked blocks, from the standard library, for {settings.seconds:.0f} s."
    terminal.act("1", "Adapt", about)
    block_size = settings.block_size or twin.parts.layout.size
    data = DataSettings(length=settings.row_length // block_size * block_size, suffix_first=0.3)
    held_out, few = pieces(documents, PIECES, 900, settings.seed), prompts[:PROMPTS]
    steps: list[dict[str, float]] = []
    probes: list[dict[str, float]] = []
    began = time.monotonic()

    def measure(model: Model) -> dict[str, float]:
        cost = likelihood(model, held_out, draws=DRAWS, seed=settings.seed)
        speed = complete(model, few, LENGTH, at_once=len(few), seed=settings.seed)
        return {
            "bound": cost.nats,
            "standard_error": cost.standard_error,
            "tokens_per_forward": speed.tokens_per_forward,
        }

    due = [settings.seconds * (n + 1) / PROBES for n in range(PROBES)]

    def when_due(model: Model) -> dict[str, float]:
        now = time.monotonic() - began
        if now < due[0]:
            return {}
        while len(due) > 1 and now >= due[0]:
            due.pop(0)
        return measure(model)

    def watch(model: Model) -> list[Any]:
        """Measure before the first step, start the clock, and give the loop what to measure at every evaluation."""
        nonlocal began
        model = model.with_(threshold=settings.threshold)
        model.network.eval()
        first = measure(model)
        model.network.train()
        began = time.monotonic()
        view.start(first)
        probes.append({"seconds": 0.0, "step": 0.0} | first)
        return [lambda network: when_due(model)]

    def log(facts: dict[str, Any]) -> None:
        here = {"seconds": time.monotonic() - began, "step": float(facts["step"])}
        steps.append(here | {name: facts[name] for name in ("loss", "tokens_per_second")})
        if "bound" in facts:
            probes.append(here | {name: facts[name] for name in (*SHOWN, "standard_error")})
        view.log(facts)

    with _run_folder(settings.out) as folder, Adapting(terminal, settings.seconds, SHOWN) as view:
        training = TrainSettings(
            out=folder,
            steps=2000,  # a bound: it is the time that ends the run and decays the learning rate
            seconds=settings.seconds,
            batch_rows=settings.batch_rows,
            learning_rate=settings.learning_rate,
            warmup=60,
            decay=0.4,
            weight_decay=0.05,
            optimizer="muon",
            seed=settings.seed,
            evaluate_every=4,
            evaluate_rows=1,  # the probes measure more
            checkpoint_every=1_000_000,
        )
        with redirect_stderr(io.StringIO()):  # the training loop's own bar
            adapted = adapt(settings.base, training, data, block_size=block_size, probes=watch, on_log=log)
    adaptation = Adaptation(
        seconds=time.monotonic() - began,
        tokens=len(steps) * settings.batch_rows * data.length,
        settings=training.model_dump(mode="json", exclude={"out", "tensorboard", "keep", "checkpoint_every"}),
        data=data.model_dump(mode="json", exclude={"cache"}),
        steps=steps,
        probes=probes,
        probe={"pieces": PIECES, "draws": DRAWS, "prompts": len(few), "length": LENGTH},
    )
    return adapted.with_(threshold=settings.threshold), adaptation


@contextmanager
def _run_folder(out: Path) -> Iterator[Path]:
    """A folder for the run's own checkpoints, which are worth nothing once the model is saved.

    What an earlier run that was killed left behind goes, too.
    """
    for left in out.glob(".adapting-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".adapting-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
