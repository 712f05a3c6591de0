"""Exact keys and values in preallocated storage."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SettingError
from .protocol import Span

__all__ = ["ExactKV"]


class ExactKV:
    """The key and value of every committed token, unchanged: slot i of the storage holds token i of the row.

    Peek, append and truncate are one idea, the length. A forward writes the keys of the tokens that it is given
    behind the committed ones and reads both; unless ``commit`` moves the length over them, the next forward writes
    over them. Storage is allocated once, float [layers, 2, rows, kv_heads, capacity + 1, head_dim]; the extra slot
    takes what padding writes.

    Raises ``SettingError`` when a forward exceeds the capacity, or a commit moves the length back.

    >>> memory = ExactKV(layers=1, rows=1, kv_heads=1, head_dim=2, capacity=8)
    >>> x = torch.ones(1, 1, 3, 2)
    >>> memory.open([3])
    3
    >>> k, v = memory.write(0, x, x, torch.arange(3)[None])     # a peek: nothing is kept yet
    >>> memory.commit([2]); memory.lengths                       # the first two tokens are kept
    [2]
    """

    keeps = True

    def __init__(
        self,
        layers: int,
        rows: int,
        kv_heads: int,
        head_dim: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        # zeros, not empty: a masked slot still enters the product, and NaN times zero is NaN
        shape = (layers, 2, rows, kv_heads, capacity + 1, head_dim)
        self.storage = torch.zeros(shape, dtype=dtype, device=device)
        self.capacity = capacity
        self.lengths = [0] * rows
        self.reads = 0
        self._views()

    def _views(self) -> None:
        self._layers = [tuple(layer.unbind(0)) for layer in self.storage.unbind(0)]
        self._rows = torch.arange(self.storage.shape[2], device=self.storage.device)[:, None]

    def span(self, row: int, first: int, last: int, horizon: int, begun: bool) -> Span:
        return Span(self.lengths[row], horizon, horizon)

    def open(self, ends: list[int], rows: list[int] | None = None) -> int:
        self.reads = max(ends)
        if self.reads > self.capacity:
            raise SettingError(
                f"{self.reads} tokens do not fit a memory of {self.capacity}; shorten the prompt or the length"
            )
        return self.reads

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self._layers[layer]
        if slots.shape[0] == 1 or slots.stride(0) == 0:  # all rows write to the same places
            keys.index_copy_(2, slots[0], k)
            values.index_copy_(2, slots[0], v)
        else:
            keys[self._rows, :, slots] = k.transpose(1, 2)
            values[self._rows, :, slots] = v.transpose(1, 2)
        return keys[:, :, : self.reads], values[:, :, : self.reads]

    def commit(self, lengths: list[int]) -> None:
        if any(new < old for new, old in zip(lengths, self.lengths, strict=True)):
            raise SettingError(f"commit cannot shorten {self.lengths} to {lengths}; use truncate")
        self.lengths = list(lengths)

    def truncate(self, lengths: list[int]) -> None:
        """Forget everything behind the given lengths."""
        self.lengths = [min(old, new) for old, new in zip(self.lengths, lengths, strict=True)]

    def keep(self, rows: list[int]) -> None:
        self.storage = self.storage[:, :, rows].contiguous()
        self.lengths = [self.lengths[r] for r in rows]
        self._views()
