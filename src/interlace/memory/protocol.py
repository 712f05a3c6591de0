"""The contract between the loop, the network and a memory."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["Memory", "Span"]


class Span(NamedTuple):
    """What a forward is given of a row: the tokens ``start..end``, which may read the keys ``0..reads``."""

    start: int
    end: int
    reads: int


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

    def span(self, row: int, first: int, last: int, horizon: int, begun: bool) -> Span:
        """What a forward that shows the live tokens ``first..last`` of a row must be given.

        horizon: the end of all that they may see. begun: whether the unit has had a move or, where a token is predicted
        at the one before it, whether its first token is known.
        """
        ...

    def open(self, ends: list[int], rows: list[int] | None = None) -> int:
        """Announce a forward that reads up to ``ends``; return how many key slots, counted from token 0, it reads.

        rows: those that it is for; None: all.
        """
        ...

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Place k, v [rows, kv_heads, n, d] at ``slots`` [rows, n] (capacity: nowhere); return those to read."""
        ...

    def commit(self, lengths: list[int]) -> None: ...

    def truncate(self, lengths: list[int]) -> None: ...

    def keep(self, rows: list[int]) -> None:
        """Forget all rows but these."""
        ...
