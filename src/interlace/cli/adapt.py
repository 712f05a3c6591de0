"""interlace adapt"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .command import Setting, command, leader
from .console import say
from .runs import adapters, announce, finished, learning, resumable
from .settings import DATA, LORA, MODEL, SET, TRAINING, assignments

if TYPE_CHECKING:
    from ..lora import Lora
    from ..model import Model
    from ..training.batch import Rows
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings


@command(
    replace(MODEL, default="base", help="where to start: a folder, a Hugging Face name, or a bundled model"),
    Setting("system", str, "what to become: a text system of `interlace systems`", "sdar", short="-s"),
    Setting("block_size", int, "tokens per block", shown="the model's if it is of the system, else the system's"),
    SET,
    Setting("teacher", str, "learn masked tokens from what this autoregressive model says, where it can know them"),
    Setting("teacher_temperature", float, "T of the teacher's p^(1/T), surer below 1", 1.0),
    *LORA,
    *TRAINING,
    *DATA,
    Setting(
        "probe_prompts", int, "held-out prompts for the tokens per forward at evaluations; 0: none", 8, panel="Run"
    ),
    panel="Train",
)
def adapt(
    model: str,
    system: str,
    block_size: int | None,
    set: list[str] | None,
    teacher: str | None,
    teacher_temperature: float,
    probe_prompts: int,
    json: bool,
    **settings: Any,
) -> None:
    """Adapt an autoregressive model to another system: block diffusion, with several tokens per forward.

    The weights go in as they are and come out in the system's published format
    (in our own if that cannot express the network);
    the mask token takes a free row of the embedding. At every evaluation the
    held-out bound (nats per token) and the tokens per forward are measured.

    With --lora RANK the weights stay frozen: low-rank adapters beside them are
    learnt, and the mask token's row of the embedding. The result is merged; the
    adapters alone lie in OUT/adapter, in PEFT's format, and are a --model too.

    A model that is of the system already goes on as it is: a further stage, of
    larger blocks say.

    With --teacher MODEL a masked token that sees nothing behind it is learnt from
    the probabilities that MODEL (the one that is adapted, say) gives for it,
    which tell more than the one token of the text. Below 1, --teacher-temperature
    makes them surer, and with them the student. Texts that the student wrote
    (interlace continue) teach it what to do behind its own mistakes.

    A run that was stopped, killed or that met a full disk goes on when the same
    command is given again.

    [bold]Examples[/bold]
      interlace adapt --out adapted --seconds 120 --batch-rows 8 --length 256
      interlace adapt --model Qwen/Qwen3-0.6B --data corpus.jsonl --out adapted
      interlace adapt --model DIR --data src --out adapted --block-size 8 --suffix-first 0.25
      interlace adapt --system efficient-dlm --set half_life=0.25 --out adapted
      interlace adapt --model DIR --data src --out adapted --lora 16 --learning-rate 2e-4
      interlace adapt --model DIR --data src --out adapted --teacher DIR
      interlace adapt --model adapted --block-size 8 --out larger
      interlace adapt --out adapted --print-config > run.toml
      interlace adapt --config run.toml --steps 2000
      accelerate launch -m interlace adapt --config run.toml
    """
    from ..recipes import adapt as run
    from ..recipes import open_base
    from ..training.settings import TrainSettings
    from ..training.text import DataSettings
    from .config import make
    from .measuring import probes

    training, data, lora = make(TrainSettings, settings), make(DataSettings, settings), adapters(settings)
    with resumable(training.out):
        base = open_base(model, training, lora)
        data = data.model_copy(update={"cache": data.cache or training.out / "training" / "tokens"})
        family = base.checkpoint.family

        def on_start(becoming: Model, rows: Rows, adapters: Lora | None) -> None:
            if leader():
                _announce(f"{model} ({family})", becoming, rows, training, data, adapters)

        measured = probes(data, probe_prompts, training.seed)
        taught: dict[str, Any] = {"teacher": teacher, "teacher_temperature": teacher_temperature}
        changes = assignments(set)
        adapted = run(base, training, data, system, block_size, changes, measured, on_start, lora, **taught)
    finished(adapted, training, json, lora)


def _announce(
    base: str, model: Model, rows: Rows, training: TrainSettings, data: DataSettings, adapters: Lora | None
) -> None:
    """What starts, what it becomes, and on how much text."""
    from ..checkpoints import families
    from ..training.text import describe

    made, mask, text = model.checkpoint, model.checkpoint.mask_token_id, describe(rows)
    stages = [stage.get("block_size") for stage in made.extra["config"]["stages"]]
    about = {
        "base": base,
        **learning(made.network, training, adapters),
        "system": f"{model.system.title}, {model.system.paper}",
        "block_size": " after ".join(map(str, stages[::-1])),
        **({} if mask is None else {"mask token": f"{model.tokenizer.id_to_token(mask)}, id {mask}"}),
        "format": _format(model),
        "rows": f"{text['rows']:,} per epoch, {text['fill']:.0%} text",
    }
    announce(about, training, data.data, data.length)
    for remark in families()[made.family].remarks(made):
        say(remark)


def _format(model: Model) -> str:
    """The format that is written, and why it is our own where the system has a published one."""
    from ..checkpoints import inexpressible

    family, system = model.checkpoint.family, model.system
    first = next((name for name in (system.format, *system.written_as) if name is not None), family)
    if family != "interlace" or first == family:
        return family
    return f"interlace, our own: {first} cannot express {', '.join(inexpressible(model.checkpoint, first))}"
