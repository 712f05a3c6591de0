"""Our own format, for networks that no published one expresses: continuous features, noise levels, classes, 3-D RoPE.

config.json holds the ``TransformerConfig`` under ``transformer``; the weights bear our own parameter names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..attention.positions import Rope, RopeScaling
from ..errors import CheckpointError
from ..nn.config import MoE, TransformerConfig
from .config_class import ConfigClass
from .fields import REQUIRED, Fields
from .format import Piece, skeleton

if TYPE_CHECKING:
    from .format import Checkpoint


_KINDS = {"int": int, "float": float, "float | None": float, "bool": bool, "str": str}


def _read(kind: type, values: Any, origin: str, **read: Any) -> Any:
    """A dataclass from the JSON of its fields, types checked; ``read`` are fields that are ready. None stays None."""
    if values is None:
        return None
    left = Fields(Fields({"value": values}, origin).take("value", dict), origin)
    for field in dataclasses.fields(kind):
        if field.name in read or field.name not in left:
            continue
        if str(field.type).startswith("tuple"):
            read[field.name] = _row(left, field.name, int)
        else:
            default = None if "None" in str(field.type) else REQUIRED
            read[field.name] = left.take(field.name, _KINDS.get(str(field.type), object), default)
    _nothing_left(left)
    try:
        return kind(**read)
    except TypeError as error:  # a field without a default is missing
        raise CheckpointError(f"{origin}: {error}; correct the file") from None


def _row(fields: Fields, name: str, kind: type) -> tuple[Any, ...]:
    values = fields.take(name, list, [])
    return tuple(Fields({name: value}, fields.origin).take(name, kind) for value in values)


def _nothing_left(fields: Fields) -> None:
    if fields:
        raise CheckpointError(
            f"{fields.origin} has an unknown field {min(fields)!r}; it was written by another version, use that"
        )


@dataclass(frozen=True)
class Interlace:
    """config.json is the config itself, and every parameter is one tensor."""

    name: str = "interlace"
    model_types: tuple[str, ...] = ("interlace",)
    masked: bool = False
    block_field: str = "block_size"
    free_mask: int | None = None
    config_classes: Mapping[str, ConfigClass] = dataclasses.field(default_factory=dict)

    def read_config(self, fields: Fields) -> TransformerConfig:
        values = Fields(fields.take("transformer", dict), f"{fields.origin}, transformer")
        rope = Fields(values.pop("rope", None) or {}, f"{values.origin}, rope")
        scaling, moe = rope.pop("scaling", None), values.pop("moe", None)
        bases, split = _row(rope, "bases", float), _row(rope, "split", int)
        read: dict[str, Any] = {
            "rope": Rope(bases or Rope.bases, split, _read(RopeScaling, scaling, f"{rope.origin}, scaling")),
            "moe": _read(MoE, moe, f"{values.origin}, moe"),
        }
        _nothing_left(rope)
        config: TransformerConfig | None = _read(TransformerConfig, values, values.origin, **read)
        assert config is not None
        return config

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        config = asdict(checkpoint.config)
        return {"architectures": ["InterlaceTransformer"], "model_type": "interlace", "transformer": config}

    def pieces(self, config: TransformerConfig, stored: Collection[str] = ()) -> Iterator[Piece]:
        return (Piece(name, name) for name, _ in skeleton(config).named_parameters())

    def aliases(self, config: TransformerConfig) -> Mapping[str, str]:
        return {"output.weight": "embed.weight"} if config.tied and config.vocab_size else {}

    def default_block_size(self, config: TransformerConfig, name: str) -> int | None:
        return None

    def remarks(self, checkpoint: Checkpoint) -> list[str]:
        return []


FAMILY = Interlace()
