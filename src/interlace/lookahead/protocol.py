"""The contract of a lookahead."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ..attention.patterns import Tags

__all__ = ["Lookahead"]


class Lookahead(Protocol):
    """Masks that a forward is given behind the row, for several cases of what may follow it.

    size: drafted tokens that are judged in a forward; all but the last are shown to the network. count: masks.
    """

    @property
    def size(self) -> int: ...

    @property
    def count(self) -> int: ...

    def tags(self, first: Tensor) -> Tags:
        """Of every mask, [rows, count], given the index of each row's first open token, [rows].

        index: its place, and its position. unit: the last token of the row that it sees. copy: 1, 2, ...: masks of
        different copies do not see each other.
        """
        ...
