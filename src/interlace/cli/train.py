"""interlace train"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .command import command
from .runs import announce, finished, resumable
from .settings import DATA, MODEL, SHAPE, TRAINING


@command(
    replace(
        MODEL, default=None, help="train this model further: a folder, a Hugging Face name, base", shown="a new one"
    ),
    *TRAINING,
    *(s for s in DATA if s.name != "suffix_first"),
    *SHAPE,
    panel="Train",
    config=True,
)
def train(model: str | None, json: bool, **settings: Any) -> None:
    """Train a new autoregressive model, and a tokenizer for it, on a corpus.

    The model has Qwen3's format and opens in transformers. It is a base for
    interlace adapt. Without --data the corpus is the standard library's source.
    With --model a trained one goes on, in its own shape, tokenizer and format.

    Images and clips are trained by interlace train-clips.

    A run that was stopped, killed or that met a full disk goes on when the same
    command is given again.

    [bold]Examples[/bold]
      interlace train --out code --steps 3000
      interlace train --out code --data notes --vocab-size 4096 --num-layers 6
      interlace train --model base --data src --out ours --learning-rate 3e-4
      interlace train --out code --print-config > code.toml
      accelerate launch -m interlace train --config code.toml
    """
    import torch

    from ..errors import SettingError
    from ..model import load
    from ..nn import Transformer
    from ..recipes import ShapeSettings, pretrain
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings
    from .config import make

    training, data = make(TrainSettings, settings), make(DataSettings, settings)
    shape = make(ShapeSettings, settings)
    if model is not None and shape != ShapeSettings():
        raise SettingError("--model brings its own shape; leave out the options of the network")
    with resumable(training.out):
        start = None if model is None else load(model, system="ar", dtype=torch.float32)
        if start is None:
            with torch.device("meta"):
                network = Transformer(shape.config(shape.vocab_size))
            about: dict[str, Any] = {
                "new model": f"{shape.num_layers} layers of {shape.hidden_size}, vocabulary {shape.vocab_size} (qwen3)"
            }
        else:
            network, about = start.checkpoint.network, {"model": f"{model} ({start.checkpoint.family})"}
        about["parameters"] = sum(p.numel() for p in network.parameters())
        announce(about, training, data.data, data.length)
        trained = pretrain(training, data, shape if start is None else None, start=start)
    finished(trained, training, json)
