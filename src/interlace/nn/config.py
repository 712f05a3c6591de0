"""The shape of a transformer."""

from __future__ import annotations

from dataclasses import dataclass

from ..attention.positions import Rope
from ..errors import SettingError

__all__ = ["MoE", "TransformerConfig"]


@dataclass(frozen=True)
class MoE:
    """A mixture of experts in place of the MLP: the top ``per_token`` of ``experts``, by softmax router weight.

    ``normalise``: the chosen weights are divided by their sum. ``dense_layers``: layers that keep a plain MLP.
    """

    experts: int
    per_token: int
    intermediate_size: int
    normalise: bool = True
    dense_layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class TransformerConfig:
    """Everything that decides the shapes and the arithmetic of a ``Transformer``.

    Text families use the first group alone. ``features`` > 0 makes the input and output continuous vectors of that
    size instead of tokens; ``levels`` adds time conditioning (adaLN-Zero) from the noise level and, with
    ``classes``, from a class label (the index ``classes`` is the null label of guidance).

    Raises ``SettingError`` for shapes that contradict each other.
    """

    vocab_size: int = 0
    hidden_size: int = 256
    intermediate_size: int = 768
    num_layers: int = 8
    num_heads: int = 4
    num_kv_heads: int = 4
    head_dim: int = 64
    max_positions: int = 2048
    rope: Rope = Rope()
    norm_eps: float = 1e-6
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = True
    tied: bool = True
    moe: MoE | None = None

    features: int = 0
    levels: bool = False
    classes: int = 0
    gated_mlp: bool = True

    def __post_init__(self) -> None:
        if (self.vocab_size > 0) == (self.features > 0):
            raise SettingError("a transformer reads tokens or features; set exactly one of vocab_size and features")
        if self.num_kv_heads < 1 or self.num_heads % self.num_kv_heads:
            raise SettingError(
                f"{self.num_heads} heads cannot share {self.num_kv_heads} key/value heads evenly; "
                "num_heads must be a multiple of num_kv_heads"
            )
        self.rope.segments(self.head_dim)
