"""Text runs from end to end, as the command line offers them: a new autoregressive model, or an adapted one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from .attention.positions import Rope
from .checkpoints import Checkpoint, expressible, save
from .checkpoints.adapter import save_adapter
from .checkpoints.tokens import MASKS
from .errors import SettingError
from .lora import Lora, LoraSettings, identity
from .model import Model, facts, load, naming, of_format, system_of
from .nn import Transformer, TransformerConfig
from .systems import find
from .systems.system import CHECKPOINT, TextSettings
from .training.batch import Rows
from .training.loop import Probe, train
from .training.objectives import DenoisingLoss, Objective
from .training.settings import TrainSettings
from .training.teacher import Teacher
from .training.text import DataSettings, mixture, text_rows
from .worlds.tokenizer import SPECIAL_TOKENS, train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .systems import System

__all__ = ["ADAPTER", "ShapeSettings", "adapt", "finish", "open_base", "pretrain"]

ADAPTER = "adapter"
"""The folder of a run in which its low-rank adapters lie."""


class ShapeSettings(BaseModel):
    """The shape of a new network, in Qwen3's terms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(2048, ge=264, description="size of the byte-level BPE vocabulary")
    hidden_size: int = Field(384, ge=8, description="channels between the blocks")
    intermediate_size: int = Field(896, ge=8, description="channels inside a block's MLP")
    num_layers: int = Field(4, ge=1, description="blocks")
    num_heads: int = Field(6, ge=1, description="heads of the queries")
    num_kv_heads: int = Field(2, ge=1, description="heads of the keys and values")
    head_dim: int = Field(64, ge=2, description="channels of a head")
    max_positions: int = Field(2048, ge=8, description="longest sequence, in tokens")

    def config(self, vocab_size: int) -> TransformerConfig:
        return TransformerConfig(**(self.model_dump() | {"vocab_size": vocab_size, "rope": Rope((10000.0,))}))


def pretrain(
    training: TrainSettings,
    data: DataSettings,
    shape: ShapeSettings | None = None,
    tokenizer: Tokenizer | None = None,
    start: str | Path | Model | None = None,
    lora: LoraSettings | None = None,
    on_start: Callable[[Checkpoint, Lora | None], None] | None = None,
    **hooks: Any,
) -> Model:
    """Train an autoregressive model on a corpus; the finished model lies in ``training.out``.

    It is new, of this ``shape`` and in Qwen3's format, or goes on from ``start``, in the format that this has. A new
    model without a ``tokenizer`` gets a byte-level BPE of the corpus' first part (``data.data`` up to the first comma,
    once). ``lora``: learn adapters of ``start`` alone; they are written to ``adapter`` inside ``training.out``.
    ``on_start`` is called with what is to be trained. ``hooks``: ``probes`` and ``on_log`` of
    ``interlace.training.loop.train``.

    Raises ``SettingError`` for a ``start`` that has no tokenizer, or beside a ``shape`` or a ``tokenizer``, for rows
    longer than the model's positions, and for adapters of a new model.
    """
    if start is None and lora is not None:
        raise SettingError("adapters stand beside the weights of a trained model; pass start, or leave lora out")
    if start is None:
        checkpoint, tokenizer = _new(training, data, shape or ShapeSettings(), tokenizer)
    elif shape is not None or tokenizer is not None:
        raise SettingError("a model that is trained further keeps its shape and its tokenizer; pass neither")
    else:
        checkpoint, tokenizer = _opened(start, training, lora)
    rows, held_out = _corpus(data, checkpoint, tokenizer, training.seed)
    objective = find("ar").parts(find("ar").settings).objective
    adapters = None if lora is None else Lora(checkpoint, lora, seed=training.seed)
    if on_start is not None:
        on_start(checkpoint, adapters)
    about = {"system": "ar"} | identity(adapters)
    train(checkpoint.network, objective, rows, training, held_out, about=about, **hooks)
    return finish(checkpoint, training.out, adapters=adapters)


def _new(
    training: TrainSettings, data: DataSettings, shape: ShapeSettings, tokenizer: Tokenizer | None
) -> tuple[Checkpoint, Tokenizer]:
    """Random weights, and a tokenizer of the corpus."""
    if tokenizer is None:
        first = data.model_copy(update={"data": data.data.split(",")[0].partition("*")[0]})
        tokenizer = train_tokenizer((d.text for d in mixture(first, "train")), shape.vocab_size)
    config = shape.config(tokenizer.get_vocab_size())
    network = Transformer(config).initialise(torch.Generator().manual_seed(training.seed))
    end = tokenizer.token_to_id("<|endoftext|>") or 0
    return Checkpoint(network, tokenizer, "qwen3", stop_token_ids=(end,), pad_token_id=end), tokenizer


def open_base(start: str | Path, training: TrainSettings, lora: LoraSettings | None = None) -> Model:
    """A trained model, read as an autoregressive one: in float32, which small updates need.

    Weights that stay frozen under adapters, stored as bfloat16 and computed with as such, are kept so: half the memory.
    """
    if lora is None:
        return load(start, system="ar", dtype=torch.float32)
    model = load(start, system="ar")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if next(model.network.parameters()).dtype != torch.bfloat16 or training.autocast(device) != "bf16":
        model.network.float()
    return model


def _opened(
    start: str | Path | Model, training: TrainSettings, lora: LoraSettings | None
) -> tuple[Checkpoint, Tokenizer]:
    """A trained model and its tokenizer."""
    model = start if isinstance(start, Model) else open_base(start, training, lora)
    if model.checkpoint.tokenizer is None:
        raise SettingError(
            f"{model.checkpoint.source} has no tokenizer.json; add the tokenizer's files beside config.json"
        )
    return model.checkpoint, model.checkpoint.tokenizer


def _corpus(
    data: DataSettings, checkpoint: Checkpoint, tokenizer: Tokenizer, seed: int, multiple: int = 1
) -> tuple[Rows, Rows]:
    """Rows to train on, and held-out ones; refuse positions that the network does not have, before a GPU meets them."""
    most = checkpoint.config.max_positions
    if data.length > most:
        raise SettingError(f"rows of {data.length} tokens exceed the model's {most} positions; lower length")
    named = next((token for token in (*checkpoint.stop_token_ids, checkpoint.pad_token_id) if token is not None), None)
    end = None if tokenizer.token_to_id(SPECIAL_TOKENS[0]) is not None else named  # Llama's ends a text otherwise
    train_rows, held_out = (
        text_rows(data, tokenizer, split, multiple, seed, named or 0, end) for split in ("train", "heldout")
    )
    return train_rows, held_out


def adapt(
    base: str | Path | Model,
    training: TrainSettings,
    data: DataSettings,
    system: str = "sdar",
    block_size: int | None = None,
    changes: Mapping[str, Any] | None = None,
    probes: Callable[[Model], list[Probe]] | None = None,
    on_start: Callable[[Model, Rows, Lora | None], None] | None = None,
    lora: LoraSettings | None = None,
    teacher: str | Path | Model | None = None,
    teacher_temperature: float = 1.0,
    **hooks: Any,
) -> Model:
    """Adapt a trained autoregressive model into another system; the finished model lies in ``training.out``.

    The weights start as they are: the mask token, where the system has one, takes a free row of the embedding (Qwen3
    has some), or one that the tokenizer already has for it. ``changes``: other settings of the system.
    ``probes(model)`` are measurements made at every evaluation; ``on_start`` is called with the model that is to be,
    its rows and its adapters. ``lora``: learn low-rank adapters and the mask token's row of the embedding, and leave
    the weights as they are; the adapters alone are written to ``adapter`` inside ``training.out``. ``teacher``: an
    autoregressive model of the same vocabulary (the one that is adapted, say) from whose probabilities masked tokens
    are learnt where it can know them (``interlace.training.teacher``), taken at ``teacher_temperature``; held-out rows
    are measured without it.

    A model that is of the system already goes on as it is, with its block size and its settings where no other are
    given: a further stage, of larger blocks say. ``stages`` in config.json lists them.

    The model is written in the system's published format if that can express the network (Fast-dLLM v2 has Qwen2's
    alone), else in our own. Where the format does not say so, config.json names the system, with the settings that are
    not its defaults.

    Raises ``SettingError`` for unknown or impossible settings, a system without text objective, a checkpoint without
    tokenizer, a vocabulary without a free row for the mask, rows longer than the model's positions, or a teacher that
    reads other tokens, does not predict the next one, or of a system without masks.
    """
    chosen = find(system)
    if not isinstance(chosen.settings, TextSettings):
        raise SettingError(
            f"{system} does not generate text; adapt takes text systems, train the others by interlace train-clips "
            f"--system {system}"
        )
    start, tokenizer = _opened(base, training, lora)
    before, known = system_of(start)
    again = before is chosen and start.block_size is not None
    twice = sorted(CHECKPOINT & set(changes or {}))
    if twice:
        raise SettingError(f"{twice[0]} is no other setting; pass block_size itself, and what a checkpoint says never")
    mask = start.mask_token_id
    if mask is None and chosen.masks:
        mask = free_token(start)
    size = start.block_size if again and block_size is None else block_size
    usual = known if again and isinstance(known, TextSettings) else chosen.settings
    said = facts(replace(start, mask_token_id=mask, block_size=size))
    settings = usual.read(**said).but(**changes or {})
    measure = objective = chosen.parts(settings).objective
    if teacher is None and teacher_temperature != 1:
        raise SettingError("teacher_temperature is that of a teacher, and there is none; pass teacher, or leave it out")
    if teacher is not None:
        objective = _taught(objective, _teacher(teacher, tokenizer, start.network, teacher_temperature))
    rows, held_out = _corpus(data, start, tokenizer, training.seed, settings.block_size)
    adapters = None if lora is None else Lora(start, lora, [] if mask is None else [mask], training.seed)
    stages = [*_stages(start, before), {"system": chosen.name, "block_size": settings.block_size}]
    config = start.extra.get("config", {})
    extra = {**start.extra, "config": {**config, "suffix_first": data.suffix_first, "stages": stages}}
    formats = (chosen.format, *chosen.written_as, "interlace")
    family = next(name for name in formats if name is not None and expressible(start, name))
    checkpoint = replace(
        start,
        family=family,
        block_size=settings.block_size,
        mask_token_id=mask,
        extra=naming(extra, chosen, settings, family),
    )
    adapted = Model(checkpoint, chosen, settings)
    if on_start is not None:
        on_start(adapted, rows, adapters)
    watched = None if probes is None else probes(adapted)
    source = teacher.checkpoint.source if isinstance(teacher, Model) else teacher
    at = "" if teacher_temperature == 1 else f" at temperature {teacher_temperature}"
    taught = {"teacher": None if source is None else f"{source}{at}"}
    about = {"system": _written(chosen, settings)} | taught | identity(adapters)
    hooks = {"probes": watched, "about": about, "measure": measure, **hooks}
    train(start.network, objective, rows, training, held_out, **hooks)
    return finish(checkpoint, training.out, chosen, settings, adapters)


def _teacher(
    teacher: str | Path | Model, tokenizer: Tokenizer, student: Transformer, temperature: float
) -> Teacher:
    """A next-token model that reads the tokens of this tokenizer, and stays as it is while the student learns."""
    model = teacher if isinstance(teacher, Model) else load(teacher)
    source = model.checkpoint.source
    if model.system.denoises:
        raise SettingError(f"{source} is a {model.system.name} model; a teacher predicts the next token: pass another")
    theirs = {} if model.tokenizer is None else model.tokenizer.get_vocab(with_added_tokens=True)
    ours = tokenizer.get_vocab(with_added_tokens=True)
    other = next((token for token, number in theirs.items() if ours.get(token) != number), None)
    if not theirs or other is not None:
        why = "has no tokenizer.json" if not theirs else f"has {other!r} as token {theirs[other]}, unlike the student"
        raise SettingError(f"the teacher {source} {why}; pass one with the student's tokenizer")
    network = deepcopy(model.network) if model.network is student else model.network
    return Teacher(network.requires_grad_(False).eval(), temperature)


def _taught(objective: Objective, teacher: Teacher) -> Objective:
    if not isinstance(objective, DenoisingLoss):
        raise SettingError(f"{type(objective).__name__} has no masked tokens that a teacher could know; leave it out")
    return replace(objective, teacher=teacher)


def _stages(start: Checkpoint, system: System) -> list[dict[str, Any]]:
    """The stages that a model went through before, as far as its config.json tells."""
    said = start.extra.get("config", {}).get("stages")
    if isinstance(said, list):
        return said
    return [] if start.block_size is None else [{"system": system.name, "block_size": start.block_size}]


def _written(system: System, settings: TextSettings) -> str:
    """A system with what is not usual of its settings, in one line."""
    usual = system.settings.model_dump(mode="json", exclude={"block_size"})
    mine = settings.model_dump(mode="json", exclude=CHECKPOINT - {"block_size"})
    given = {name: value for name, value in mine.items() if usual.get(name) != value}
    return f"{system.name}:" + ",".join(f"{name}={value}" for name, value in sorted(given.items()))


def free_token(checkpoint: Checkpoint) -> int:
    """The id of the mask token that the tokenizer has, or the first embedding row that it leaves free."""
    tokenizer, rows = checkpoint.tokenizer, checkpoint.config.vocab_size
    assert tokenizer is not None
    special = {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items()}
    found = next((special[name] for name in MASKS if name in special), None)
    if found is not None:
        return int(found)
    used = tokenizer.get_vocab(with_added_tokens=True)
    if len(used) >= rows:
        raise SettingError(
            f"the tokenizer uses all {rows} rows of the embedding; add one (vocab_size {rows + 1}) for the mask token"
        )
    # an ordinary token may be spelled like a mask
    name = next(name for name in MASKS if name not in used)
    tokenizer.add_special_tokens([name])
    number = tokenizer.token_to_id(name)
    assert number is not None
    if number >= rows or number in used.values():  # ids with holes
        raise SettingError(
            f"a new token of this tokenizer gets the id {number}, which is taken or beyond the {rows} rows of the "
            "embedding; add a mask token to the tokenizer, at an id that is free"
        )
    return number


def finish(
    checkpoint: Checkpoint,
    out: Path,
    system: System | None = None,
    settings: TextSettings | None = None,
    adapters: Lora | None = None,
) -> Model:
    """Save from the main process; return the model, with its adapters merged."""
    from accelerate import PartialState

    learnt = None if adapters is None else adapters.merge()
    checkpoint.network.eval()
    state = PartialState()
    if state.is_main_process:
        if adapters is None or adapters.settings.merge:
            save(checkpoint, out)
        if adapters is not None and learnt is not None:
            save_adapter(checkpoint, out / ADAPTER, adapters.source, adapters.config(), learnt, adapters.base)
    state.wait_for_everyone()
    system = system or of_format(checkpoint.family)
    return Model(checkpoint, system, settings or system.settings)
