"""interlace adapt"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .command import Setting, command, leader
from .runs import announce, finished, resumable
from .settings import DATA, MODEL, SET, TRAINING, assignments

if TYPE_CHECKING:
    from ..model import Model
    from ..training.batch import Rows
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings


@command(
    replace(MODEL, default="base", help="where to start: a folder, a Hugging Face name, or a bundled model"),
    Setting("system", str, "what to become: a text system of `interlace systems`", "sdar", short="-s"),
    Setting("block_size", int, "tokens per block", shown="the system's"),
    SET,
    *TRAINING,
    *DATA,
    Setting(
        "probe_prompts", int, "held-out prompts for the tokens per forward at evaluations; 0: none", 8, panel="Run"
    ),
    panel="Train",
    config=True,
)
def adapt(
    model: str,
    system: str,
    block_size: int | None,
    set: list[str] | None,
    probe_prompts: int,
    json: bool,
    **settings: Any,
) -> None:
    """Adapt an autoregressive model to another system: block diffusion, with several tokens per forward.

    The weights go in as they are and come out in the system's published format
    (in our own if that cannot express the network);
    the mask token takes a free row of the embedding. At every evaluation the
    held-out bound (nats per token) and the tokens per forward are measured.

    A run that was stopped, killed or that met a full disk goes on when the same
    command is given again.

    [bold]Examples[/bold]
      interlace adapt --out adapted --seconds 120 --batch-rows 8 --length 256
      interlace adapt --model Qwen/Qwen3-0.6B --data corpus.jsonl --out adapted
      interlace adapt --model DIR --data src --out adapted --block-size 8 --suffix-first 0.25
      interlace adapt --system efficient-dlm --set half_life=0.25 --out adapted
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
        family = base.checkpoint.family

        def on_start(becoming: Model, rows: Rows) -> None:
            if leader():
                _announce(f"{model} ({family})", becoming, rows, training, data)

        measured = probes(data, probe_prompts, training.seed)
        adapted = run(base, training, data, system, block_size, assignments(set), measured, on_start)
    finished(adapted, training, json)


def _announce(base: str, model: Model, rows: Rows, training: TrainSettings, data: DataSettings) -> None:
    """What starts, what it becomes, and on how much text."""
    from ..training.text import describe

    made, mask, text = model.checkpoint, model.checkpoint.mask_token_id, describe(rows)
    about = {
        "base": base,
        "parameters": sum(p.numel() for p in made.network.parameters()),
        "system": f"{model.system.title}, {model.system.paper}",
        "block_size": made.block_size,
        "mask token": f"{model.tokenizer.id_to_token(mask)}, id {mask}",
        "rows": f"{text['rows']:,} per epoch, {text['fill']:.0%} text",
    }
    announce(about, training, data.data, data.length)
