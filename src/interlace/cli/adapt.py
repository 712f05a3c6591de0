"""interlace adapt"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .command import Setting, command, leader
from .runs import announce, finished, resumable
from .settings import DATA, MODEL, TRAINING

if TYPE_CHECKING:
    from ..model import Model
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings


@command(
    replace(MODEL, default="base", help="where to start: a folder, a Hugging Face name, or a bundled model"),
    Setting("system", str, "what to become: a text system of `interlace systems`", "sdar", short="-s"),
    Setting("block_size", int, "tokens per block", shown="the system's"),
    *TRAINING,
    *DATA,
    Setting(
        "probe_prompts", int, "held-out prompts for the tokens per forward at evaluations; 0: none", 8, panel="Run"
    ),
    panel="Train",
    config=True,
)
def adapt(model: str, system: str, block_size: int | None, probe_prompts: int, json: bool, **settings: Any) -> None:
    """Adapt an autoregressive model to another system: block diffusion, with several tokens per forward.

    The weights go in as they are and come out in the system's published format;
    the mask token takes a free row of the embedding. At every evaluation the
    held-out bound (nats per token) and the tokens per forward are measured.

    A run that was stopped, killed or that met a full disk goes on when the same
    command is given again.

    [bold]Examples[/bold]
      interlace adapt --out adapted --seconds 120 --batch-rows 8 --length 256
      interlace adapt --model Qwen/Qwen3-0.6B --data corpus.jsonl --out adapted
      interlace adapt --model DIR --data src --out adapted --block-size 8 --suffix-first 0.25
      interlace adapt --out adapted --print-config > run.toml
      interlace adapt --config run.toml --steps 2000
      accelerate launch -m interlace adapt --config run.toml
    """
    from ..recipes import adapt as run
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings
    from .config import make
    from .measuring import probes

    training, data = make(TrainSettings, settings), make(DataSettings, settings)
    with resumable(training.out):
        import torch

        from ..model import load

        base = load(model, system="ar", dtype=torch.float32)
        data = data.model_copy(update={"cache": data.cache or training.out / "training" / "tokens"})
        if leader():
            _announce(model, base, system, block_size, training, data)
        adapted = run(base, training, data, system, block_size, probes(data, probe_prompts, training.seed))
    finished(adapted, training, json)


def _announce(
    name: str, base: Model, system: str, block_size: int | None, training: TrainSettings, data: DataSettings
) -> None:
    """What starts, what it becomes, and on how much text."""
    from ..recipes import free_token
    from ..systems import find
    from ..training.text import describe, text_rows

    start, chosen = base.checkpoint, find(system)
    block = block_size or getattr(chosen.settings, "block_size", None)
    about: dict[str, Any] = {
        "base": f"{name} ({start.family})",
        "parameters": sum(p.numel() for p in start.network.parameters()),
        "system": f"{chosen.title}, {chosen.paper}",
        "block_size": block,
    }
    if start.tokenizer is not None and block is not None:
        mask = start.mask_token_id if start.mask_token_id is not None else free_token(start)
        about["mask token"] = f"{start.tokenizer.id_to_token(mask)}, id {mask}"
        if "hf:" not in data.data:  # a data set is fetched once, by the run
            rows = describe(text_rows(data, start.tokenizer, "train", multiple=block, seed=training.seed))
            about["rows"] = f"{rows['rows']:,} per epoch, {rows['fill']:.0%} text"
    announce(about, training, data.data, data.length)
