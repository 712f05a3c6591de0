"""The contract between the loop, the network and a memory."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Memory"]


class Memory(Protocol):
    """Keys and values of the committed past of every row.

    ``lengths[r]`` tokens of row r are committed. A forward over new tokens calls ``write`` once per layer: the new
    keys go behind the committed ones, where the next forward writes over them (a *peek*), until ``commit`` moves
    the length over them. ``truncate`` moves it back. Nothing else changes what a later forward reads.
    """

    lengths: list[int]

    def read_length(self, new: int) -> int:
        """How many key slots a forward over ``new`` tokens a row will read."""
        ...

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Place k, v [rows, kv_heads, n, d] at ``slots`` [rows, n]; return the keys and values to read."""
        ...

    def commit(self, lengths: list[int]) -> None: ...

    def truncate(self, lengths: list[int]) -> None: ...
