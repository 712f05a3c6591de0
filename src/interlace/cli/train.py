"""interlace train"""

from __future__ import annotations

from typing import Any

from .command import command
from .settings import DATA, SHAPE, TRAINING
from .training import finished, resumable


@command(*TRAINING, *DATA, *SHAPE, panel="Train", config=True)
def train(json: bool, **settings: Any) -> None:
    """Train a new autoregressive model, and a tokenizer for it, from nothing but a corpus."""
    from ..recipes import ShapeSettings, pretrain
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings
    from .config import make

    training, data, shape = (make(kind, settings) for kind in (TrainSettings, DataSettings, ShapeSettings))
    with resumable(training.out):
        model = pretrain(training, data, shape)
    finished(model, training, json)
