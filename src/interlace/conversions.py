"""A checkpoint in another published format: the same weights under other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoints import Checkpoint, expressible, families, inexpressible, load, save
from .checkpoints.format import skeleton
from .errors import SettingError
from .model import facts, naming, of_format, system_of
from .recipes import free_token
from .systems import System, find
from .systems.system import CHECKPOINT, Settings, TextSettings

if TYPE_CHECKING:
    from .checkpoints import Summary
    from .nn import Transformer

__all__ = ["Renamed", "convert", "mapping", "plan"]


@dataclass(frozen=True)
class Renamed:
    """One parameter of our network: ours, its shape, and the tensors that hold it in the one format and the other."""

    ours: str
    shape: tuple[int, ...]
    source: tuple[str, ...]
    target: tuple[str, ...]


def mapping(found: Summary, to: str) -> list[Renamed]:
    """Where every tensor of a checkpoint goes in the format ``to``, in the order of our parameters.

    ``SettingError`` for an unknown format, and for one that cannot express the network.

    >>> mapping(summary("Qwen/Qwen3-0.6B"), "sdar")[0].target        # doctest: +SKIP
    ('model.embed_tokens.weight',)
    """
    network = _able(Checkpoint(skeleton(found.config), family=found.family), to)
    names = []
    for family in (found.family, to):
        pieces: dict[str, list[str]] = {}
        for piece in families()[family].pieces(found.config):
            pieces.setdefault(piece.ours, []).append(piece.published)
        names.append(pieces)
    source, target = names
    return [
        Renamed(ours, tuple(weight.shape), tuple(source[ours]), tuple(target[ours]))
        for ours, weight in network.named_parameters()
    ]


def convert(
    path: str | Path,
    out: str | Path,
    to: str,
    block_size: int | None = None,
    mask_token_id: int | None = None,
    dtype: str | None = None,
    system: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write a checkpoint in the format ``to``; the weights stay what they are, and so does what the model can do.

    A format of masked models needs a mask token: the one that the checkpoint names, ``mask_token_id``, or the first
    free row of the embedding, for which the tokenizer gets a new special token. An autoregressive model in such a
    format has still to be adapted. ``system`` and ``changes``: how the model decodes where nothing else is said,
    written to config.json unless the format says so; a model that denoises already can be named as a system that reads
    its weights in the same way.

    Raises ``SettingError`` for an unknown format, one that cannot express the network, another block size than the
    model was trained for, a mask token that is outside of the vocabulary or an ordinary token of the tokenizer, a
    system that reads such weights in another way, and impossible settings of it; ``CheckpointError`` for what ``load``
    and ``save`` refuse.

    >>> convert("Qwen/Qwen3-0.6B", "as-sdar", "sdar", block_size=8).mask_token_id     # doctest: +SKIP
    151669
    >>> convert("DIR", "faster", "sdar", changes={"threshold": 0.8})                  # doctest: +SKIP
    """
    made = plan(load(path), to, block_size, mask_token_id, system, changes)
    save(made, out, dtype)
    return made


def plan(
    found: Checkpoint,
    to: str,
    block_size: int | None = None,
    mask_token_id: int | None = None,
    system: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """What ``convert`` writes of a checkpoint, whose weights may be absent (device="meta"); raises what it raises."""
    _able(found, to)
    mask = found.mask_token_id if mask_token_id is None else _mask(found, mask_token_id)
    if families()[to].masked and mask is None:
        if found.tokenizer is None:
            raise SettingError(
                f"{to} needs a mask token, and {found.source} has no tokenizer to name one; pass mask_token_id"
            )
        mask = free_token(found)
    size = found.block_size if block_size is None else block_size
    if size is not None and size < 1:
        raise SettingError(f"block_size is {size}; pass 1 or more")
    if found.block_size not in (None, size) and system_of(found)[0].block_sizes == "trained":
        raise SettingError(
            f"block_size is {size}, but the model was adapted for {found.block_size}, and its weights stay what they "
            f"are; leave it, or adapt the model with --block-size {size}"
        )
    made = replace(found, family=to, mask_token_id=mask, block_size=size)
    own = sorted(CHECKPOINT & set(changes or {}))
    if own:
        raise SettingError(f"{own[0]} is no setting of decoding, but what the checkpoint is; leave it out")
    known = families()[found.family].masked or "system" in found.extra.get("config", {})
    if known or system is not None or changes:
        # it goes on as the system that it is, whatever the new format would say
        before = system_of(found)
        chosen, settings = before if known else (of_format(to), of_format(to).settings)
        if system is not None and system != chosen.name:
            chosen, settings = _another(before, system, made)
        made = replace(made, extra=naming(found.extra, chosen, settings.but(**changes or {}), to))
    return made


def _another(before: tuple[System, Settings], name: str, made: Checkpoint) -> tuple[System, Settings]:
    """A system and its defaults, if it reads weights of the system before as that does."""
    (system, settings), chosen = before, find(name)
    if not isinstance(chosen.settings, TextSettings) or not isinstance(settings, TextSettings):
        raise SettingError(f"{name} and {system.name} are not both systems of text; leave the system out")
    if chosen.masks and made.mask_token_id is None:
        raise SettingError(f"{name} needs a mask token, and nothing names one; pass mask_token_id")
    if not system.denoises:
        return chosen, chosen.settings  # nothing is learnt yet
    said = facts(made)
    mine, other = system.parts(settings.read(**said)), chosen.parts(chosen.settings.read(**said))
    for what, a, b in (
        ("who sees whom", mine.pattern, other.pattern),
        ("noise", type(mine.process), type(other.process)),
        ("where a token is predicted", mine.process.shift, other.process.shift),
    ):
        if a != b:
            raise SettingError(f"{name} reads other weights than {system.name}: {what} differs; adapt the model to it")
    return chosen, chosen.settings


def _able(checkpoint: Checkpoint, to: str) -> Transformer:
    """The network, if the format can express it."""
    if to not in families():
        raise SettingError(f"unknown format {to!r}; known: {', '.join(families())}")
    differ = inexpressible(checkpoint, to)
    if differ:
        able = ", ".join(name for name in families() if expressible(checkpoint, name))
        raise SettingError(f"the format {to} cannot express {', '.join(differ)}; formats that can: {able}")
    return checkpoint.network


def _mask(checkpoint: Checkpoint, mask: int) -> int:
    """The id, if it can be a mask token's."""
    rows, tokenizer = checkpoint.config.vocab_size, checkpoint.tokenizer
    if not 0 <= mask < rows:
        raise SettingError(f"mask_token_id is {mask}, the vocabulary has {rows} rows; pass one of them")
    if tokenizer is not None:
        token = tokenizer.id_to_token(mask)
        if token is None:
            raise SettingError(
                f"the tokenizer has no token {mask}; leave mask_token_id out, and the first free row gets one"
            )
        if mask not in tokenizer.get_added_tokens_decoder():
            raise SettingError(
                f"{mask} is the ordinary token {token!r}, which texts contain; pass the id of a special token, or "
                "leave mask_token_id out"
            )
    return mask
