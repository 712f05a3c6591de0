"""The naming that Llama began and most text models follow; a family says how it differs.

published                                                      ours
model.embed_tokens.weight                                      embed.weight
model.layers.N.input_layernorm.weight                          blocks.N.attention_norm.weight
model.layers.N.self_attn.{q,k,v}_proj.{weight,bias}            blocks.N.attention.qkv.{weight,bias}, joined
model.layers.N.self_attn.o_proj.{weight,bias}                  blocks.N.attention.out.{weight,bias}
model.layers.N.self_attn.{q,k}_norm.weight                     blocks.N.attention.{q,k}_norm.weight
model.layers.N.post_attention_layernorm.weight                 blocks.N.mlp_norm.weight
model.layers.N.mlp.{gate,up}_proj.{weight,bias}                blocks.N.mlp.up.{weight,bias}, joined
model.layers.N.mlp.down_proj.{weight,bias}                     blocks.N.mlp.down.{weight,bias}
model.layers.N.mlp.gate.weight                                 blocks.N.mlp.router.weight
model.layers.N.mlp.experts.E.{gate,up}_proj.weight             blocks.N.mlp.expert_up[E], joined
model.layers.N.mlp.experts.E.down_proj.weight                  blocks.N.mlp.expert_down[E]
model.norm.weight, lm_head.weight                              norm.weight, output.weight (absent when tied)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..attention.positions import Rope, RopeScaling
from ..errors import CheckpointError
from ..nn.config import MoE, TransformerConfig
from .config_class import ConfigClass
from .fields import Fields
from .format import Piece

if TYPE_CHECKING:
    from .format import Checkpoint

__all__ = ["LlamaLike", "query_key_value", "read_rope", "write_rope"]


@dataclass(frozen=True)
class LlamaLike:
    """A family with Llama's names.

    Attributes:
        name: of the family.
        dense, sparse: {model_type: architecture} without and with experts; the first one is written.
        qkv_bias, out_bias: whether these are there; None: the field ``attention_bias`` says so.
        mlp_bias: the field ``mlp_bias`` is heeded.
        qk_norm: queries and keys are normalised per head.
        head_dim: where config.json names none; None: hidden_size / heads.
        windows: it has the fields of sliding windows, which must be off.
        masked: it needs a mask token; free_mask: the id that it has where nothing names one.
        block_field: the name of the block size in config.json.
        config_classes: {model_type: class} by which ``transformers`` opens it, where it has none of its own.
    """

    name: str
    dense: Mapping[str, str] = field(default_factory=dict)
    sparse: Mapping[str, str] = field(default_factory=dict)
    qkv_bias: bool | None = None
    out_bias: bool | None = None
    mlp_bias: bool = False
    qk_norm: bool = False
    head_dim: int | None = None
    windows: bool = True
    masked: bool = False
    block_field: str = "block_size"
    free_mask: int | None = None
    config_classes: Mapping[str, ConfigClass] = field(default_factory=dict)

    @property
    def model_types(self) -> Collection[str]:
        return (*self.dense, *self.sparse)

    def default_block_size(self, config: TransformerConfig, name: str) -> int | None:
        return None

    def remarks(self, checkpoint: Checkpoint) -> list[str]:
        return []

    def aliases(self, config: TransformerConfig) -> Mapping[str, str]:
        return {"lm_head.weight": "model.embed_tokens.weight"} if config.tied else {}

    def read_config(self, fields: Fields) -> TransformerConfig:
        layers = fields.take("num_hidden_layers", int)
        hidden, heads = fields.take("hidden_size", int), fields.take("num_attention_heads", int)
        positions = fields.take("max_position_embeddings", int, 2048)
        if not (0 < layers < 100_000 and 0 < heads):
            raise CheckpointError(f"{fields.origin}: {layers} layers of {heads} heads are impossible; correct the file")
        activation = fields.take("hidden_act", str, "silu")
        if activation not in ("silu", "swish"):
            raise CheckpointError(f"{fields.origin}: hidden_act {activation!r} is not supported; only 'silu' is")
        if self.windows:
            _refuse_windows(fields, layers)
        # null means hidden_size / heads also where the family has a default
        absent = self.head_dim if "head_dim" not in fields else None
        bias = fields.take("attention_bias", bool, False)
        sparse = fields.take("model_type", str) in self.sparse
        return TransformerConfig(
            vocab_size=fields.take("vocab_size", int),
            hidden_size=hidden,
            intermediate_size=fields.take("intermediate_size", int),
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=fields.take("num_key_value_heads", int, heads),
            head_dim=fields.take("head_dim", int, absent or hidden // heads),
            max_positions=positions,
            rope=read_rope(fields, positions),
            norm_eps=fields.take("rms_norm_eps", float, 1e-6),
            qkv_bias=bias if self.qkv_bias is None else self.qkv_bias,
            out_bias=bias if self.out_bias is None else self.out_bias,
            mlp_bias=fields.take("mlp_bias", bool, False) if self.mlp_bias else False,
            qk_norm=self.qk_norm,
            tied=fields.take("tie_word_embeddings", bool, False),
            moe=_read_experts(fields, layers) if sparse else None,
        )

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        config = checkpoint.config
        kinds = self.sparse if self.sparse and (config.moe is not None or not self.dense) else self.dense
        model_type, architecture = next(iter(kinds.items()))
        out: dict[str, Any] = {
            "architectures": [architecture],
            "model_type": model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": config.max_positions,
            "rms_norm_eps": config.norm_eps,
            "tie_word_embeddings": config.tied,
            **write_rope(config.rope),
        }
        if self.qkv_bias is None:
            out["attention_bias"] = config.qkv_bias
        if self.mlp_bias:
            out["mlp_bias"] = config.mlp_bias
        if self.windows:
            out |= {"use_sliding_window": False, "sliding_window": None, "max_window_layers": config.num_layers}
        if kinds is self.sparse:
            moe = config.moe or MoE(0, 0, 0)
            out |= {
                "num_experts": moe.experts,
                "num_experts_per_tok": moe.per_token,
                "moe_intermediate_size": moe.intermediate_size,
                "norm_topk_prob": moe.normalise,
                "mlp_only_layers": sorted(set(moe.dense_layers)),
                "decoder_sparse_step": 1,
            }
        return out

    def pieces(self, config: TransformerConfig, stored: Collection[str] = ()) -> Iterator[Piece]:
        yield Piece("model.embed_tokens.weight", "embed.weight")
        for layer in range(config.num_layers):
            theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
            yield Piece(f"{theirs}.input_layernorm.weight", f"{ours}.attention_norm.weight")
            yield from _attention(config, f"{theirs}.self_attn", f"{ours}.attention")
            yield Piece(f"{theirs}.post_attention_layernorm.weight", f"{ours}.mlp_norm.weight")
            if config.moe is not None and layer not in config.moe.dense_layers:
                yield from _experts(config.moe, f"{theirs}.mlp", f"{ours}.mlp", stored)
            else:
                yield from _mlp(config, f"{theirs}.mlp", f"{ours}.mlp")
        yield Piece("model.norm.weight", "norm.weight")
        if not config.tied:
            yield Piece("lm_head.weight", "output.weight")


def query_key_value(config: TransformerConfig, theirs: str, ours: str) -> Iterator[Piece]:
    """``q_proj``, ``k_proj`` and ``v_proj`` as the pieces of ``qkv``."""
    start = 0
    for name, heads in (("q", config.num_heads), ("k", config.num_kv_heads), ("v", config.num_kv_heads)):
        rows = slice(start, start + heads * config.head_dim)
        start = rows.stop
        yield Piece(f"{theirs}.{name}_proj.weight", f"{ours}.qkv.weight", (rows,))
        if config.qkv_bias:
            yield Piece(f"{theirs}.{name}_proj.bias", f"{ours}.qkv.bias", (rows,))


def _attention(config: TransformerConfig, theirs: str, ours: str) -> Iterator[Piece]:
    yield from query_key_value(config, theirs, ours)
    yield Piece(f"{theirs}.o_proj.weight", f"{ours}.out.weight")
    if config.out_bias:
        yield Piece(f"{theirs}.o_proj.bias", f"{ours}.out.bias")
    if config.qk_norm:
        yield Piece(f"{theirs}.q_norm.weight", f"{ours}.q_norm.weight")
        yield Piece(f"{theirs}.k_norm.weight", f"{ours}.k_norm.weight")


def _mlp(config: TransformerConfig, theirs: str, ours: str) -> Iterator[Piece]:
    width = config.intermediate_size
    for kind in ("weight", "bias") if config.mlp_bias else ("weight",):
        yield Piece(f"{theirs}.gate_proj.{kind}", f"{ours}.up.{kind}", (slice(0, width),))
        yield Piece(f"{theirs}.up_proj.{kind}", f"{ours}.up.{kind}", (slice(width, 2 * width),))
        yield Piece(f"{theirs}.down_proj.{kind}", f"{ours}.down.{kind}")


def _experts(moe: MoE, theirs: str, ours: str, stored: Collection[str]) -> Iterator[Piece]:
    yield Piece(f"{theirs}.gate.weight", f"{ours}.router.weight")
    if f"{theirs}.experts.gate_up_proj" in stored:  # all experts in one tensor, as transformers holds them
        yield Piece(f"{theirs}.experts.gate_up_proj", f"{ours}.expert_up")
        yield Piece(f"{theirs}.experts.down_proj", f"{ours}.expert_down")
        return
    width = moe.intermediate_size
    for expert in range(moe.experts):
        name = f"{theirs}.experts.{expert}"
        yield Piece(f"{name}.gate_proj.weight", f"{ours}.expert_up", (expert, slice(0, width)))
        yield Piece(f"{name}.up_proj.weight", f"{ours}.expert_up", (expert, slice(width, 2 * width)))
        yield Piece(f"{name}.down_proj.weight", f"{ours}.expert_down", (expert,))


def _refuse_windows(fields: Fields, layers: int) -> None:
    """Full attention only: a window that is switched off, or that no layer uses, is none."""
    on = fields.take("use_sliding_window", bool, False)
    size = fields.take("sliding_window", int, None)
    first = fields.take("max_window_layers", int, 0)
    kinds = fields.take("layer_types", list, None)
    slides = any(kind != "full_attention" for kind in kinds) if kinds is not None else first < layers
    if slides and size is not None and (on or kinds is not None):
        raise CheckpointError(
            f"{fields.origin}: layers with a sliding window of {size} are not supported; use a checkpoint of full "
            "attention, or set use_sliding_window to false if no text is longer than the window"
        )


def _read_experts(fields: Fields, layers: int) -> MoE | None:
    local = fields.take("num_local_experts", int, 0)  # the name in transformers 5
    experts = fields.take("num_experts", int, local)
    per_token = fields.take("num_experts_per_tok", int, 0)
    width = fields.take("moe_intermediate_size", int, 0)
    normalise = fields.take("norm_topk_prob", bool, False)
    plain = set(fields.take("mlp_only_layers", list, []))
    step = fields.take("decoder_sparse_step", int, 1)
    if experts == 0:
        return None
    if not 1 <= per_token <= experts or width < 1 or step < 1:
        raise CheckpointError(
            f"{fields.origin}: {per_token} of {experts} experts of size {width} in every {step}. layer is impossible; "
            "correct num_experts_per_tok, num_experts, moe_intermediate_size or decoder_sparse_step"
        )
    dense = tuple(layer for layer in range(layers) if layer in plain or (layer + 1) % step)
    return MoE(experts, per_token, width, normalise, dense)


_SCALINGS = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor", "mscale",
             "mscale_all_dim", "truncate"),
}  # fmt: skip


def read_rope(fields: Fields, positions: int) -> Rope:
    """The rotary positions: ``rope_theta`` and ``rope_scaling`` (transformers 4), or ``rope_parameters`` (5).

    ``positions`` is ``max_position_embeddings``, the original length where none is given. Raises ``CheckpointError``
    for a scaling that is not supported: ``longrope``. ``dynamic`` is, up to ``positions`` (``RopeScaling``).
    """
    origin = f"{fields.origin}, rope"
    theta = fields.take("rope_theta", float, 10000.0)
    newer = Fields(fields.take("rope_parameters", dict, {}), origin)
    theta = newer.take("rope_theta", float, theta) if not _per_layer(newer) else theta
    inside = Fields(fields.take("rope_scaling", dict, {}) or newer, origin)
    original = fields.take("original_max_position_embeddings", int, None)
    if _per_layer(inside):
        raise CheckpointError(f"{fields.origin}: rope_parameters per kind of layer are not supported; use one for all")
    theta = inside.take("rope_theta", float, theta)
    share = fields.take("partial_rotary_factor", float, 1.0)
    share = inside.take("partial_rotary_factor", float, share)
    if share != 1.0:
        raise CheckpointError(f"{fields.origin}: partial_rotary_factor {share} is not supported; only 1 is")
    kind = inside.take("type", str, "default")
    kind = inside.take("rope_type", str, kind)
    if not 0 < theta < 1e30:
        raise CheckpointError(f"{fields.origin}: rope_theta {theta} is impossible; correct the file")
    if kind == "default":
        return Rope((theta,))
    if kind not in _SCALINGS:
        raise CheckpointError(
            f"{fields.origin}: rope scaling {kind!r} is not supported; known are default, {', '.join(_SCALINGS)}"
        )
    values: dict[str, Any] = {}
    for name in _SCALINGS[kind]:
        whole = name == "original_max_position_embeddings"
        value = inside.take(name, int if whole else bool if name == "truncate" else float, None)
        if value is not None:
            values[name] = value
    if "original_max_position_embeddings" in _SCALINGS[kind]:
        values.setdefault("original_max_position_embeddings", positions)
        values["original_max_position_embeddings"] = original or values["original_max_position_embeddings"]
    if kind == "yarn" and "factor" not in values:
        values["factor"] = positions / values["original_max_position_embeddings"]
    if kind == "yarn":  # 0 stands for the default
        values = {name: value for name, value in values.items() if value or name not in ("beta_fast", "beta_slow")}
    if "factor" not in values:
        raise CheckpointError(f"{fields.origin}: rope scaling {kind!r} has no 'factor'; add it")
    scaling = RopeScaling(kind, **values)
    positive = [value for name, value in values.items() if name not in ("truncate", "mscale", "mscale_all_dim")]
    if min(positive) <= 0 or max(positive) > 1e30 or scaling.low_freq_factor >= scaling.high_freq_factor:
        raise CheckpointError(f"{fields.origin}: rope scaling {values} is impossible; correct the file")
    return Rope((theta,), scaling=scaling)


def _per_layer(values: dict[str, Any]) -> bool:
    return any(isinstance(value, dict) for value in values.values())


def write_rope(rope: Rope) -> dict[str, Any]:
    """``rope_theta`` and ``rope_scaling``, which transformers 4 and 5 and the engines that build on them all read."""
    scaling = rope.scaling
    if scaling is None or scaling.type == "default":
        return {"rope_theta": rope.bases[0], "rope_scaling": None}
    values = {name: getattr(scaling, name) for name in _SCALINGS.get(scaling.type, ())}
    kept = {name: value for name, value in values.items() if value is not None and (name, value) != ("truncate", True)}
    return {"rope_theta": rope.bases[0], "rope_scaling": {"rope_type": scaling.type, **kept}}
