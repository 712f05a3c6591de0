"""interlace train"""

from __future__ import annotations

from typing import Any

from .command import command
from .runs import announce, finished, resumable
from .settings import DATA, SHAPE, TRAINING


@command(*TRAINING, *(s for s in DATA if s.name != "suffix_first"), *SHAPE, panel="Train", config=True)
def train(json: bool, **settings: Any) -> None:
    """Train a new autoregressive model, and a tokenizer for it, on a corpus.

    The model has Qwen3's format and opens in transformers. It is a base for
    interlace adapt. Without --data the corpus is the standard library's source.

    A run that was stopped, killed or that met a full disk goes on when the same
    command is given again.

    [bold]Examples[/bold]
      interlace train --out code --steps 3000
      interlace train --out code --data notes --vocab-size 4096 --num-layers 6
      interlace train --out code --print-config > code.toml
      accelerate launch -m interlace train --config code.toml
    """
    import torch

    from ..nn import Transformer
    from ..recipes import ShapeSettings, pretrain
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings
    from .config import make

    training, data = make(TrainSettings, settings), make(DataSettings, settings)
    shape = make(ShapeSettings, settings)
    with resumable(training.out):
        with torch.device("meta"):
            size = sum(p.numel() for p in Transformer(shape.config(shape.vocab_size)).parameters())
        about = {
            "new model": f"{shape.num_layers} layers of {shape.hidden_size}, vocabulary {shape.vocab_size} (qwen3)",
            "parameters": size,
        }
        announce(about, training, data)
        model = pretrain(training, data, shape)
    finished(model, training, json)
