"""Attention on a CPU that skips what a mask leaves empty, as FlexAttention does on CUDA.

The queries of a row are cut into tiles. Every tile attends, by the fused kernel of PyTorch, to those tiles of keys that
any of its queries sees in any row of the batch, under their part of the dense mask; so the result is that of the whole
mask, and the cost that of its occupied tiles: less than half of a two-copy row, and less still of short documents.

One operator forward and one backward, which a compiled network calls as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TILE", "Tiles", "attend_tiles", "cut"]

TILE = 64


class Tiles(NamedTuple):
    """mask: boolean [rows, 1, n, n]. occupied: boolean [tiles, tiles], whether any query of a tile sees any key of
    another in any row. size: tokens of a tile."""

    mask: Tensor
    occupied: Tensor
    size: int


def cut(mask: Tensor, size: int = TILE) -> Tiles:
    """The occupied tiles of a mask.

    >>> mask = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    >>> cut(mask, 2).occupied.int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    n, count = mask.shape[-1], -(-mask.shape[-1] // size)
    seen = F.pad(mask.any(0)[0], (0, count * size - n, 0, count * size - n))
    return Tiles(mask, seen.view(count, size, count, size).any(3).any(1), size)


def attend_tiles(q: Tensor, k: Tensor, v: Tensor, tiles: Tiles) -> Tensor:
    """softmax(q k^T / sqrt(d)) v where the mask allows; q [rows, heads, n, d], k and v [rows, kv_heads, n, d]."""
    if torch.is_autocast_enabled("cpu"):
        q, k, v = (t.to(torch.get_autocast_dtype("cpu")) for t in (q, k, v))
    return _forward(q, k, v, *tiles)[0]


class _Tile(NamedTuple):
    """A tile's queries, its keys as ranges, and how to take both out of a tensor."""

    first: int
    last: int
    keys: list[tuple[int, int]]

    def near(self, t: Tensor) -> Tensor:
        """The rows of k or v that are seen, side by side."""
        parts = [t[:, :, begin:end] for begin, end in self.keys]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def bias(self, mask: Tensor, shared: int, dtype: torch.dtype) -> Tensor:
        """0 where the mask allows, else -inf; repeated for the heads that share keys."""
        part = torch.cat([mask[:, :, self.first : self.last, begin:end] for begin, end in self.keys], 3)
        return torch.zeros(part.shape, dtype=dtype).masked_fill_(~part, float("-inf")).repeat(1, 1, shared, 1)

    def queries(self, t: Tensor, groups: int) -> Tensor:
        """Heads that share keys become further queries: [rows, heads, n, ...] -> [rows, groups, shared * tile, ...]."""
        return t[:, :, self.first : self.last].reshape(t.shape[0], groups, -1, *t.shape[3:])

    def put(self, into: Tensor, value: Tensor) -> None:
        """The inverse of ``queries``."""
        into[:, :, self.first : self.last] = value.reshape(*into.shape[:2], -1, *into.shape[3:])


def _tiles(occupied: Tensor, size: int, n: int) -> Iterator[_Tile]:
    for query, row in enumerate(occupied.tolist()):
        keys: list[tuple[int, int]] = []
        for key, here in enumerate(row):
            begin, end = key * size, min((key + 1) * size, n)
            if here and keys and keys[-1][1] == begin:
                keys[-1] = keys[-1][0], end
            elif here:
                keys.append((begin, end))
        yield _Tile(query * size, min((query + 1) * size, n), keys)


@torch.library.custom_op("interlace::attend_tiles", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, occupied: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The result, and the logarithm of every query's normaliser, [rows, heads, n]."""
    groups, shared = k.shape[1], q.shape[1] // k.shape[1]
    out, total = torch.empty(q.shape, dtype=q.dtype), torch.empty(q.shape[:3], dtype=_wide(q))
    for tile in _tiles(occupied, size, q.shape[2]):
        here = tile.queries(q, groups), tile.near(k), tile.near(v)
        bias = tile.bias(mask, shared, q.dtype)
        seen, normaliser = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*here, attn_mask=bias)
        tile.put(out, seen)
        tile.put(total, normaliser)
    return out, total


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, occupied: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return torch.empty(q.shape, dtype=q.dtype), torch.empty(q.shape[:3], dtype=_wide(q))


@torch.library.custom_op("interlace::attend_tiles_backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, occupied: Tensor, size: int, out: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v. Those of a key are summed over tiles in float32."""
    groups, shared = k.shape[1], q.shape[1] // k.shape[1]
    grad_q = torch.empty(q.shape, dtype=q.dtype)
    grad_k, grad_v = (torch.zeros(k.shape, dtype=_wide(k)) for _ in range(2))
    for tile in _tiles(occupied, size, q.shape[2]):
        slope, queries, seen, normaliser = (tile.queries(t, groups) for t in (grad, q, out, total))
        here = queries, tile.near(k), tile.near(v), seen, normaliser
        bias = tile.bias(mask, shared, q.dtype)
        to_q, to_k, to_v = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            slope, *here, 0.0, False, attn_mask=bias
        )
        tile.put(grad_q, to_q)
        sizes = [end - begin for begin, end in tile.keys]
        for whole, parts in ((grad_k, to_k.split(sizes, 2)), (grad_v, to_v.split(sizes, 2))):
            for (begin, end), part in zip(tile.keys, parts, strict=True):
                whole[:, :, begin:end] += part
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype)


@_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, occupied: Tensor, size: int, out: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty(q.shape, dtype=q.dtype), torch.empty(k.shape, dtype=k.dtype), torch.empty(v.shape, dtype=v.dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.size = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, mask, occupied, out, total = ctx.saved_tensors
    return *_backward(grad, q, k, v, mask, occupied, ctx.size, out, total), None, None, None


def _wide(t: Tensor) -> torch.dtype:
    return torch.float64 if t.dtype == torch.float64 else torch.float32


_forward.register_autograd(_gradients, setup_context=_save)
