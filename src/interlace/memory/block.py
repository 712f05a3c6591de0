"""Exact keys of the past, and stale ones inside the block that is being denoised."""

from __future__ import annotations

from typing import Any

from .exact import ExactKV
from .paged import PagedKV
from .protocol import Span

__all__ = ["BlockCache", "PagedBlockCache", "PagedPrefixCache", "PrefixCache"]


class _Stale:
    """What a row is given when some keys may be stale; before the memory whose keys they are."""

    lengths: list[int]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.held = [0] * len(self.lengths)

    def span(self, row: int, first: int, last: int, horizon: int, begun: bool) -> Span:
        if begun and self.held[row] == horizon:
            return self.partly(first, last, horizon)
        whole: Span = super().span(row, first, last, horizon, begun)  # type: ignore[misc]
        return whole

    def open(self, ends: list[int], rows: list[int] | None = None) -> int:
        for row, end in zip(range(len(ends)) if rows is None else rows, ends, strict=True):
            self.held[row] = end  # up to there the last forward of the row left keys
        reads: int = super().open(ends, rows)  # type: ignore[misc]
        return reads

    def partly(self, first: int, last: int, horizon: int) -> Span:
        """What is fed while the rest is stale."""
        return Span(first, last, horizon)

    def join(self, pages: list[int]) -> None:
        super().join(pages)  # type: ignore[misc]
        self.held.append(0)

    def keep(self, rows: list[int]) -> None:
        super().keep(rows)  # type: ignore[misc]
        self.held = [self.held[r] for r in rows]


class BlockCache(_Stale, ExactKV):
    """``ExactKV`` for finished blocks; inside the current one, only the live unit (a sub-block) is computed anew.

    A forward over the whole block leaves its keys in storage. Once the live unit has begun (its first token is known,
    where that is predicted at the token before it; else, it has had a move), a step feeds the unit alone: it writes
    its own keys over the old ones and reads those of the other units as they were left. Approximate, but with units as
    large as blocks it is ``ExactKV``; what is committed is exact always, since a finished block is fed whole.

    The sub-block cache of Fast-dLLM v2 (arXiv:2509.26328), the dual cache of Fast-dLLM (arXiv:2505.22618) inside a
    block. It spares arithmetic, not forwards: a gain where a step is bound by its number of tokens.
    """


class PrefixCache(BlockCache):
    """As ``BlockCache``, but what lies behind the live unit is fed too: only the keys before it may be stale.

    For full attention, where ``ExactKV`` can keep nothing before the end. The prefix cache of Fast-dLLM
    (arXiv:2505.22618).
    """

    def partly(self, first: int, last: int, horizon: int) -> Span:
        return Span(first, horizon, horizon)


class PagedBlockCache(_Stale, PagedKV):
    """``BlockCache`` in the pages of a pool."""

    stale = True


class PagedPrefixCache(PagedBlockCache):
    """``PrefixCache`` in the pages of a pool."""

    def partly(self, first: int, last: int, horizon: int) -> Span:
        return Span(first, horizon, horizon)
