"""How far attention looks back or ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..attention.tiles import Tiles

if TYPE_CHECKING:
    from ..memory import Memory
    from ..nn.transformer import Attention

__all__ = ["MOST", "Places", "attention_distance"]

MOST = 1 << 22
"""Attention weights that are held at a time."""


def attention_distance(
    q: Tensor, k: Tensor, mask: Any, query_place: Tensor, key_place: Tensor, most: int = MOST
) -> Tensor:
    """A_i = mean over heads of sum_j softmax(q k^T / sqrt(d))_ij |x_i - x_j| of every query, float [rows, n].

    Queries are taken some at a time, so that at most ``most`` weights are there at once (or those of one query).

    Args:
        q: [rows, heads, n, d]. k: [rows, kv_heads, m, d]; heads share those of k in groups (GQA).
        mask: who sees whom, as ``interlace.attention.kernels.attend`` takes it, pages excepted; None: everything.
        query_place, key_place: x, int64 [rows, n] and [rows, m].

    Source: our reading of arXiv:2603.07475, which shows pictures of it.

    >>> same, place = torch.zeros(1, 1, 4, 8), torch.arange(4)[None]      # causal, and no key stands out: i / 2
    >>> attention_distance(same, same, torch.ones(4, 4).tril().bool(), place, place).tolist()
    [[0.0, 0.5, 1.0, 1.5]]
    """
    rows, heads, n, d = q.shape
    groups, m = k.shape[1], k.shape[2]
    keys = k.float().transpose(-1, -2)[:, :, None]
    size = max(1, most // (rows * heads * m))
    found = []
    for first in range(0, n, size):
        some = slice(first, min(first + size, n))
        scores = q[:, :, some].float().view(rows, groups, heads // groups, -1, d) @ keys / d**0.5
        seen = _seen(mask, some, rows, m, q.device)
        if seen is not None:
            scores = scores.masked_fill(~seen.unsqueeze(1), float("-inf"))
        away = (query_place[:, some, None] - key_place[:, None, :]).abs().to(scores.dtype)
        weights = scores.softmax(-1).nan_to_num()  # padding sees nothing
        found.append((weights * away[:, None, None]).sum(-1).mean((1, 2)))
    return torch.cat(found, 1)


def _seen(mask: Any, some: slice, rows: int, m: int, device: torch.device) -> Tensor | None:
    """Who of some queries sees whom, boolean [rows or 1, 1, queries, m]."""
    if mask is None:
        return None
    if isinstance(mask, Tiles):
        mask = mask.mask
    if isinstance(mask, Tensor):
        part = mask[..., some, :] if mask.shape[-2] > 1 else mask
        return part.reshape(-1, 1, *part.shape[-2:])
    row = torch.arange(rows, device=device)[:, None, None]  # FlexAttention's predicate
    query, key = torch.arange(some.start, some.stop, device=device)[:, None], torch.arange(m, device=device)
    seen: Tensor = mask.mask_mod(row, torch.zeros_like(row), query, key)
    return seen.unsqueeze(1)


class Places:
    """The place of every key that a forward reads, whatever order, lookahead and memory it has.

    A memory tells where its keys lie and not what their places are, so it is written down as they come.
    """

    def __init__(self) -> None:
        self._memory: Memory | None = None
        self._known = torch.zeros(0, 0, dtype=torch.long)
        self.queries = self._known

    def feed(self, positions: Tensor, memory: Memory | None = None, slots: Tensor | None = None) -> None:
        """A forward begins: positions and slots [rows, n]."""
        self.queries = positions
        if memory is None or slots is None or not memory.keeps:
            self._memory, self._known = None, positions
            return
        if memory is not self._memory:
            self._memory, self._known = memory, positions.new_zeros(len(positions), 0)
        behind = int(slots.max()) + 1 - self._known.shape[1]
        if behind > 0:
            self._known = torch.cat((self._known, self._known.new_zeros(len(positions), behind)), 1)
        self._known.scatter_(1, slots, positions)

    def distance(self, attention: Attention, given: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """A_i of an attention that was just called with ``given``, and what it would be if no key stood out, [rows, n]
        each."""
        x, rotation, mask, memory, slots = given
        q, k, v = attention.project(x, rotation)
        if memory is not None and slots is not None:
            k, _ = memory.write(attention.layer, k, v, slots)  # the same keys to the same slots
        where = self.queries, self._known[:, : k.shape[2]]
        return attention_distance(q, k, mask, *where), attention_distance(torch.zeros_like(q), k, mask, *where)
