"""The contract between the loop, the network and a memory."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Memory"]


class Memory(Protocol):
    """Keys and values of the committed past of every row.

    ``lengths[r]`` tokens of row r are committed. A forward over the tokens ``lengths[r]..ends[r]`` is announced by
    ``open``, and calls ``write`` once per layer: the new keys go behind the committed ones, where the next forward
    writes over them (a *peek*), until ``commit`` moves the length over them. ``truncate`` moves it back. Nothing else
    changes what a later forward reads.
    """

    lengths: list[int]
    keeps: bool
    """Whether commits spare work; False for the reference that recomputes everything."""

    def open(self, ends: list[int]) -> int:
        """Announce a forward up to ``ends``; return how many key slots, counted from token 0, it will read."""
        ...

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Place k, v [rows, kv_heads, n, d] at ``slots`` [rows, n] (capacity: nowhere); return those to read."""
        ...

    def commit(self, lengths: list[int]) -> None: ...

    def truncate(self, lengths: list[int]) -> None: ...

    def keep(self, rows: list[int]) -> None:
        """Forget all rows but these."""
        ...
