"""Our own format, for networks that no published one expresses: continuous features, noise levels, classes, 3-D RoPE.

config.json holds the ``TransformerConfig`` under ``transformer``; the weights bear our own parameter names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..attention.positions import Rope, RopeScaling
from ..errors import CheckpointError
from ..nn.config import MoE, TransformerConfig
from ..nn.transformer import Transformer
from .fields import Fields
from .format import Piece

if TYPE_CHECKING:
    from .format import Checkpoint


@dataclass(frozen=True)
class Interlace:
    """config.json is the config itself, and every parameter is one tensor."""

    name: str = "interlace"
    model_types: tuple[str, ...] = ("interlace",)
    masked: bool = False

    def read_config(self, fields: Fields) -> TransformerConfig:
        values = fields.take("transformer", dict)
        try:
            rope = dict(values.pop("rope", {}))
            scaling = rope.pop("scaling", None)
            moe = values.pop("moe", None)
            return TransformerConfig(
                rope=Rope(
                    **{name: tuple(value) for name, value in rope.items()},
                    scaling=None if scaling is None else RopeScaling(**scaling),
                ),
                moe=None if moe is None else MoE(**{**moe, "dense_layers": tuple(moe.get("dense_layers", ()))}),
                **values,
            )
        except TypeError as error:
            raise CheckpointError(
                f"{fields.origin}: {error}; it was written by another version of interlace, use that one"
            ) from None

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        config = asdict(checkpoint.config)
        return {"architectures": ["InterlaceTransformer"], "model_type": "interlace", "transformer": config}

    def pieces(self, config: TransformerConfig, stored: Collection[str] = ()) -> Iterator[Piece]:
        with torch.device("meta"):
            names = [name for name, _ in Transformer(config).named_parameters()]
        return (Piece(name, name) for name in names)

    def aliases(self, config: TransformerConfig) -> Mapping[str, str]:
        return {"output.weight": "embed.weight"} if config.tied and config.vocab_size else {}

    def default_block_size(self, config: TransformerConfig, name: str) -> int | None:
        return None


FAMILY = Interlace()
