"""interlace train"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .command import command
from .runs import adapters, announce, finished, learning, resumable
from .settings import DATA, LORA, MODEL, SHAPE, TRAINING

if TYPE_CHECKING:
    from ..checkpoints import Checkpoint
    from ..lora import Lora


@command(
    replace(
        MODEL, default=None, help="train this model further: a folder, a Hugging Face name, base", shown="a new one"
    ),
    *TRAINING,
    *(s for s in DATA if s.name != "suffix_first"),
    *SHAPE,
    *LORA,
    panel="Train",
)
def train(model: str | None, json: bool, **settings: Any) -> None:
    """Train a new autoregressive model, and a tokenizer for it, on a corpus.

    The model has Qwen3's format and opens in transformers. It is a base for
    interlace adapt. Without --data the corpus is the standard library's source.
    With --model a trained one goes on, in its own shape, tokenizer and format;
    with --lora RANK too, only low-rank adapters of it are learnt.

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
    from ..errors import SettingError
    from ..recipes import ShapeSettings, open_base, pretrain
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings
    from .config import make

    training, data, lora = make(TrainSettings, settings), make(DataSettings, settings), adapters(settings)
    shape = make(ShapeSettings, settings)
    if model is not None and shape != ShapeSettings():
        raise SettingError("--model brings its own shape; leave out the options of the network")
    if model is None and lora is not None:
        raise SettingError("--lora learns beside the weights of a trained model; pass it by --model")

    def on_start(checkpoint: Checkpoint, adapters: Lora | None) -> None:
        size = f"{shape.num_layers} layers of {shape.hidden_size}, vocabulary {checkpoint.config.vocab_size}"
        what = {"new model": f"{size} (qwen3)"} if model is None else {"model": f"{model} ({checkpoint.family})"}
        announce(what | learning(checkpoint.network, training, adapters), training, data.data, data.length)

    with resumable(training.out):
        if model is None:
            trained = pretrain(training, data, shape, on_start=on_start)
        else:
            trained = pretrain(training, data, start=open_base(model, training, lora), lora=lora, on_start=on_start)
    finished(trained, training, json, lora)
