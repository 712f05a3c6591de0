"""One transformer for every family: Llama, Qwen2, Qwen3, Qwen3-MoE, and time-conditioned diffusion (adaLN-Zero).

Pre-norm blocks: x <- x + g_a * attention(norm(x)), x <- x + g_m * mlp(norm(x)); text models have g = 1. Query, key and
value projections are one matrix, gate and up projections another: the published names are cut and joined in
``interlace.checkpoints``. The network is a function of tensors; what is kept between calls is the memory's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.kernels import attend
from ..attention.positions import apply_rope
from ..errors import SettingError
from .config import TransformerConfig
from .moe import MoEMLP
from .time import LevelEmbedding

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from ..attention.paged import Pages
    from ..attention.tiles import Tiles
    from ..memory.protocol import Memory

__all__ = ["RMSNorm", "Transformer"]

TABLE = 65536
"""Up to so many positions their cosines and sines are kept in a table (64 MiB for heads of 128)."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, the mean taken in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions, optional per-head RMS norm of queries and keys."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.segments = config.rope.segments(config.head_dim)
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv = nn.Linear(config.hidden_size, width, bias=config.qkv_bias)
        self.out = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=config.out_bias)
        self.q_norm = RMSNorm(self.head_dim, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | BlockMask | Tiles | Pages | None,
        memory: Memory | None,
        slots: Tensor | None,
    ) -> Tensor:
        rows, n, _ = x.shape
        q, k, v = self.project(x, rotation)
        if memory is not None and slots is not None:
            k, v = memory.write(self.layer, k, v, slots)
        seen = attend(q, k, v, mask)
        return self.out(seen.transpose(1, 2).reshape(rows, n, -1))

    def project(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [rows, heads, n, head_dim], keys and values [rows, kv_heads, n, head_dim], normed and turned."""
        rows, n, _ = x.shape
        qkv = self.qkv(x).view(rows, n, -1, self.head_dim)
        # queries and keys are normed and turned together: half the kernels, the same numbers
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), 2)
        if self.q_norm is not None and self.k_norm is not None:
            per_head = self.q_norm.weight.expand(self.heads, -1), self.k_norm.weight.expand(self.kv_heads, -1)
            weight = torch.cat(per_head)
            qk = F.rms_norm(qk, (self.head_dim,), None, self.q_norm.eps) * weight.to(qk.dtype)
        qk, v = apply_rope(qk.transpose(1, 2), *rotation, self.segments), v.transpose(1, 2)
        q, k = qk.split((self.heads, self.kv_heads), 1)
        return q, k, v


class MLP(nn.Module):
    """Gated: down(silu(gate(x)) * up(x)). Plain: down(gelu_tanh(up(x)))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gated = config.gated_mlp
        width = config.intermediate_size * (2 if self.gated else 1)
        self.up = nn.Linear(config.hidden_size, width, bias=config.mlp_bias)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        if not self.gated:
            return self.down(F.gelu(self.up(x), approximate="tanh"))
        gate, up = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Attention, then an MLP (or experts), each behind a norm and added to the stream.

    With time conditioning, a *noisy* token's norms are shifted and scaled and its residuals gated by its level's
    embedding (adaLN-Zero); a clean token passes the same weights unmodulated, so its keys depend on clean tokens
    alone.
    """

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps)
        experts = config.moe is not None and layer not in config.moe.dense_layers
        self.mlp: nn.Module = MoEMLP(config) if experts else MLP(config)
        self.modulation = nn.Linear(config.hidden_size, 6 * config.hidden_size) if config.levels else None

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | BlockMask | Tiles | Pages | None,
        memory: Memory | None,
        slots: Tensor | None,
        condition: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        if self.modulation is None or condition is None:
            x = x + self.attention(self.attention_norm(x), rotation, mask, memory, slots)
            return x + self.mlp(self.mlp_norm(x))
        embedding, noisy = condition
        change = self.modulation(embedding) * noisy
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = change.chunk(6, -1)
        clean = 1 - noisy
        seen = self.attention(self.attention_norm(x) * (1 + scale_a) + shift_a, rotation, mask, memory, slots)
        x = x + (gate_a + clean) * seen
        return x + (gate_m + clean) * self.mlp(self.mlp_norm(x) * (1 + scale_m) + shift_m)


class Transformer(nn.Module):
    """tokens or features, positions, who sees whom -> hidden states; and ``head``: hidden states -> predictions.

    Args of ``forward``:
        content: token ids int64 [rows, n], or features float [rows, n, features].
        positions: int64 [rows, n], or [rows, n, axes] for positions of several dimensions.
        mask: boolean [rows or 1, 1, n, m] (True = may see), what ``make_mask`` returns, or None (all visible).
        memory, slots: a memory, and where in it the n tokens go, int64 [rows, n].
        level: noise level of every token, float [rows, n] (only with ``config.levels``); 0 marks a clean token.
        label: class of every token, int64 [rows, n] (only with ``config.classes``).
    Returns hidden states [rows, n, hidden_size], after the last norm.

    >>> net = Transformer(TransformerConfig(vocab_size=32, hidden_size=16, num_layers=1, num_heads=2,
    ...     num_kv_heads=1, head_dim=8, intermediate_size=32))
    >>> ids = torch.arange(4)[None]
    >>> net.head(net(ids, ids)).shape
    torch.Size([1, 4, 32])
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.embed: nn.Module
        if config.vocab_size:
            self.embed = nn.Embedding(config.vocab_size, size)
        else:
            self.embed = nn.Linear(config.features, size, bias=False)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(size, config.norm_eps)
        self.time = LevelEmbedding(size, config.classes) if config.levels else None
        self.modulation = nn.Linear(size, 2 * size) if config.levels else None
        self.output = nn.Linear(size, config.vocab_size or config.features, bias=config.features > 0)
        if config.tied and config.vocab_size:
            self.output.weight = self.embed.weight
        # no weights: they follow from the config and stay float32 whatever the model is cast to
        self._rotation: tuple[Tensor, Tensor] | None = None
        self._frequencies: list[Tensor] | None = None

    def initialise(self, generator: torch.Generator, std: float = 0.02) -> Transformer:
        """Normal(0, std) matrices, residual outputs scaled by 1/sqrt(2 layers), zero biases, zero adaLN and head."""
        for name, parameter in self.named_parameters():
            with torch.no_grad():
                if parameter.dim() < 2:
                    parameter.fill_(1.0 if "norm" in name else 0.0)
                elif "modulation" in name or (self.time is not None and name == "output.weight"):
                    parameter.zero_()
                else:
                    residual = name.endswith(("out.weight", "down.weight", "expert_down"))
                    scale = std / (2 * self.config.num_layers) ** 0.5 if residual else std
                    parameter.normal_(0.0, scale, generator=generator)
        return self

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin [rows, 1, n, head_dim] of the positions.

        Read from a table when there is one axis and the table is small. A model of a million positions would need a
        gigabyte, so its angles are taken in every call: a few small kernels, the same numbers, and unlike a table that
        grows they need not know the largest position, for which the GPU would have to be waited for.

        Raises ``SettingError`` for a position that the model does not have, on a CPU, where looking costs nothing.
        """
        rope, dim, device = self.config.rope, self.config.head_dim, positions.device
        if rope.axes == 1:
            self._check(positions)
        if rope.axes == 1 and self.config.max_positions <= TABLE:
            if self._rotation is None or self._rotation[0].device != device:
                self._rotation = rope.angles(torch.arange(self.config.max_positions, device=device), dim)
            cos, sin = (table[positions] for table in self._rotation)
        else:
            if self._frequencies is None or self._frequencies[0].device != device:
                self._frequencies = [f.to(device) for f in rope.frequencies(dim)]
            cos, sin = rope.angles(positions, dim, self._frequencies)
        return cos.unsqueeze(1).to(dtype), sin.unsqueeze(1).to(dtype)

    def _check(self, positions: Tensor) -> None:
        if positions.device.type == "cpu" and positions.numel() and not torch.compiler.is_compiling():
            largest = int(positions.max())
            if largest >= self.config.max_positions:
                raise SettingError(
                    f"position {largest} is beyond the model's {self.config.max_positions} positions; shorten the row"
                )

    def forward(
        self,
        content: Tensor,
        positions: Tensor,
        mask: Tensor | BlockMask | Tiles | Pages | None = None,
        memory: Memory | None = None,
        slots: Tensor | None = None,
        level: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        x = self.embed(content.to(self.output.weight.dtype) if content.is_floating_point() else content)
        rotation = self.rotation(positions, x.dtype)
        condition = None
        if self.time is not None and level is not None:
            embedding = F.silu(self.time(level, label))
            condition = embedding.to(x.dtype), (level > 0).unsqueeze(-1).to(x.dtype)
        for block in self.blocks:
            x = block(x, rotation, mask, memory, slots, condition)
        x = self.norm(x)
        if self.modulation is not None and condition is not None:
            shift, scale = (self.modulation(condition[0]) * condition[1]).chunk(2, -1)
            x = x * (1 + scale) + shift
        return x

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocab_size], or predicted features [..., features]."""
        return self.output(hidden)
