"""LLaDA: a Llama under OLMo's names, with a mask token. Source: arXiv:2502.09992.

published                                            ours
model.transformer.wte.weight                         embed.weight
model.transformer.blocks.N.attn_norm.weight          blocks.N.attention_norm.weight
model.transformer.blocks.N.{q,k,v}_proj.weight       blocks.N.attention.qkv.weight, joined
model.transformer.blocks.N.attn_out.weight           blocks.N.attention.out.weight
model.transformer.blocks.N.ff_norm.weight            blocks.N.mlp_norm.weight
model.transformer.blocks.N.{ff_proj,up_proj}.weight  blocks.N.mlp.up.weight, joined (ff_proj is the gate)
model.transformer.blocks.N.ff_out.weight             blocks.N.mlp.down.weight
model.transformer.ln_f.weight                        norm.weight
model.transformer.ff_out.weight                      output.weight (absent when tied)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..attention.positions import Rope
from ..errors import CheckpointError
from ..nn.config import TransformerConfig
from .config_class import ConfigClass
from .fields import Fields
from .format import Piece
from .naming import query_key_value

if TYPE_CHECKING:
    from .format import Checkpoint

# What the published architecture can do and our network cannot: {field: the one value that is read}.
_FIXED: dict[str, Any] = {
    "block_type": "llama", "activation_type": "silu", "layer_norm_type": "rms", "rope": True, "alibi": False,
    "include_bias": False, "attention_layer_norm": False, "scale_logits": False,
    "input_emb_norm": False, "block_group_size": 1,
}  # fmt: skip
_CONFIG = ConfigClass(
    "configuration_llada",
    "LLaDAConfig",
    "PretrainedConfig",
    {
        "attribute_map": {
            "hidden_size": "d_model",
            "intermediate_size": "mlp_hidden_size",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "num_key_value_heads": "n_kv_heads",
            "max_position_embeddings": "max_sequence_length",
        },
        "mask_token_id": 126336,
    },
)


@dataclass(frozen=True)
class LLaDA:
    """The format, read and written."""

    name: str = "llada"
    model_types: tuple[str, ...] = ("llada",)
    masked: bool = True
    block_field: str = "block_size"
    free_mask: int | None = 126336
    config_classes: Mapping[str, ConfigClass] = field(default_factory=lambda: {"llada": _CONFIG})

    def read_config(self, fields: Fields) -> TransformerConfig:
        if "num_experts" in fields and "d_model" not in fields:  # LLaDA-MoE has the same model_type
            raise CheckpointError(f"{fields.origin}: LLaDA with experts is not supported; only the dense LLaDA is")
        for name, value in _FIXED.items():
            found = fields.take(name, object, value)
            if found != value:
                raise CheckpointError(f"{fields.origin}: {name} {found!r} is not supported; only {value!r} is")
        if fields.take("multi_query_attention", bool, False):
            raise CheckpointError(f"{fields.origin}: multi_query_attention is not supported; use n_kv_heads")
        hidden, heads = fields.take("d_model", int), fields.take("n_heads", int)
        if heads < 1 or hidden % heads:
            raise CheckpointError(
                f"{fields.origin}: {heads} heads of {hidden} channels are impossible; correct the file"
            )
        kv_heads = fields.take("n_kv_heads", int, None)
        vocabulary = fields.take("vocab_size", int)
        rows = fields.take("embedding_size", int, None)
        width = fields.take("mlp_hidden_size", int, None)
        ratio = fields.take("mlp_ratio", int, 4)
        return TransformerConfig(
            vocab_size=rows or vocabulary,
            hidden_size=hidden,
            intermediate_size=width or ratio * hidden,
            num_layers=fields.take("n_layers", int),
            num_heads=heads,
            num_kv_heads=kv_heads or heads,
            head_dim=hidden // heads,
            max_positions=fields.take("max_sequence_length", int, 1024),
            rope=Rope((fields.take("rope_theta", float, 10000.0),)),
            norm_eps=fields.take("rms_norm_eps", float, 1e-5),
            qkv_bias=fields.take("include_qkv_bias", bool, False),
            qk_norm=False,
            tied=fields.take("weight_tying", bool, True),
        )

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        config = checkpoint.config
        return {
            "architectures": ["LLaDAModelLM"],
            "model_type": "llada",
            **_FIXED,
            "d_model": config.hidden_size,
            "n_heads": config.num_heads,
            "n_kv_heads": config.num_kv_heads,
            "n_layers": config.num_layers,
            "mlp_ratio": 4,
            "mlp_hidden_size": config.intermediate_size,
            "vocab_size": config.vocab_size,
            "embedding_size": config.vocab_size,
            "max_sequence_length": config.max_positions,
            "rope_theta": config.rope.bases[0],
            "rms_norm_eps": config.norm_eps,
            "include_qkv_bias": config.qkv_bias,
            "weight_tying": config.tied,
        }

    def pieces(self, config: TransformerConfig, stored: Collection[str] = ()) -> Iterator[Piece]:
        yield Piece("model.transformer.wte.weight", "embed.weight")
        for layer in range(config.num_layers):
            theirs, ours = f"model.transformer.blocks.{layer}", f"blocks.{layer}"
            yield Piece(f"{theirs}.attn_norm.weight", f"{ours}.attention_norm.weight")
            yield from query_key_value(config, theirs, f"{ours}.attention")
            yield Piece(f"{theirs}.attn_out.weight", f"{ours}.attention.out.weight")
            yield Piece(f"{theirs}.ff_norm.weight", f"{ours}.mlp_norm.weight")
            width = config.intermediate_size
            yield Piece(f"{theirs}.ff_proj.weight", f"{ours}.mlp.up.weight", (slice(0, width),))
            yield Piece(f"{theirs}.up_proj.weight", f"{ours}.mlp.up.weight", (slice(width, 2 * width),))
            yield Piece(f"{theirs}.ff_out.weight", f"{ours}.mlp.down.weight")
        yield Piece("model.transformer.ln_f.weight", "norm.weight")
        if not config.tied:
            yield Piece("model.transformer.ff_out.weight", "output.weight")

    def aliases(self, config: TransformerConfig) -> Mapping[str, str]:
        return {"model.transformer.ff_out.weight": "model.transformer.wte.weight"} if config.tied else {}

    def default_block_size(self, config: TransformerConfig, name: str) -> int | None:
        return None

    def remarks(self, checkpoint: Checkpoint) -> list[str]:
        return []


FAMILY = LLaDA()
