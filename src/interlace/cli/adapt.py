"""interlace adapt"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .command import Setting, command
from .settings import DATA, MODEL, TRAINING
from .training import finished, resumable

SYSTEM = Setting("system", str, "a text system of `interlace systems`", "sdar", short="-s")
BLOCK_SIZE = Setting("block_size", int, "tokens per block", shown="the system's")
START = replace(MODEL, default="base", help="where to start: a folder, a Hugging Face name, or a bundled model")


@command(START, SYSTEM, BLOCK_SIZE, *TRAINING, *DATA, panel="Train", config=True)
def adapt(model: str, system: str, block_size: int | None, json: bool, **settings: Any) -> None:
    """Adapt an autoregressive model to another system, such as block diffusion."""
    from ..recipes import adapt as run
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings
    from .config import make

    training, data = make(TrainSettings, settings), make(DataSettings, settings)
    with resumable(training.out):
        adapted = run(model, training, data, system, block_size)
    finished(adapted, training, json)
