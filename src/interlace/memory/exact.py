"""Exact keys and values in preallocated storage."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SettingError

__all__ = ["ExactKV"]


class ExactKV:
    """The key and value of every committed token, unchanged: slot i of the storage holds token i of the row.

    Peek, append and truncate are one idea, the length. A forward writes the keys of the tokens that it is given
    behind the committed ones and reads both; unless ``commit`` moves the length over them, the next forward writes
    over them. Storage is allocated once, float [layers, 2, rows, kv_heads, capacity, head_dim].

    Raises ``SettingError`` when a commit would exceed the capacity or move the length back.

    >>> memory = ExactKV(layers=1, rows=1, kv_heads=1, head_dim=2, capacity=8)
    >>> x = torch.ones(1, 1, 3, 2)
    >>> memory.lengths, memory.read_length(3)
    ([0], 3)
    >>> k, v = memory.write(0, x, x, torch.arange(3)[None])     # a peek: nothing is kept yet
    >>> memory.commit([2]); memory.lengths                       # the first two tokens are kept
    [2]
    """

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
        self.storage = torch.zeros(layers, 2, rows, kv_heads, capacity, head_dim, dtype=dtype, device=device)
        self.capacity = capacity
        self.lengths = [0] * rows
        self._reads = 0

    def read_length(self, new: int) -> int:
        self._reads = max(self.lengths) + new
        if self._reads > self.capacity:
            raise SettingError(
                f"{self._reads} tokens do not fit a memory of {self.capacity}; shorten the prompt or the length"
            )
        return self._reads

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.storage[layer].unbind(0)
        if slots.shape[0] == 1:
            keys.index_copy_(2, slots[0], k)
            values.index_copy_(2, slots[0], v)
        else:
            rows = torch.arange(slots.shape[0], device=slots.device)[:, None]
            keys[rows, :, slots] = k.transpose(1, 2)
            values[rows, :, slots] = v.transpose(1, 2)
        return keys[:, :, : self._reads], values[:, :, : self._reads]

    def commit(self, lengths: list[int]) -> None:
        if any(new < old for new, old in zip(lengths, self.lengths, strict=True)):
            raise SettingError(f"commit cannot shorten {self.lengths} to {lengths}; use truncate")
        if max(lengths) > self.capacity:
            raise SettingError(f"{max(lengths)} tokens do not fit a memory of {self.capacity}")
        self.lengths = list(lengths)

    def truncate(self, lengths: list[int]) -> None:
        """Forget everything behind the given lengths."""
        self.lengths = [min(old, new) for old, new in zip(self.lengths, lengths, strict=True)]
