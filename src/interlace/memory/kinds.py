"""The kinds of memory by their names: in storage of its own, and in the pages of a pool."""

from __future__ import annotations

from typing import Any

from ..errors import SettingError
from .block import BlockCache, PagedBlockCache, PagedPrefixCache, PrefixCache
from .exact import ExactKV
from .paged import PagedKV, Pool
from .protocol import Memory
from .recompute import Recompute

__all__ = ["own", "paged"]

_OWN = {"exact": ExactKV, "block": BlockCache, "prefix": PrefixCache}
_PAGED = {"exact": PagedKV, "block": PagedBlockCache, "prefix": PagedPrefixCache}


def own(kind: str, rows: int, layers: int, kv_heads: int, head_dim: int, capacity: int, *how: Any) -> Memory:
    """A memory for so many rows. ``SettingError`` for an unknown kind."""
    if kind == "none":
        return Recompute(rows)
    return _known(_OWN, kind)(layers, rows, kv_heads, head_dim, capacity, *how)


def paged(kind: str, pool: Pool) -> PagedKV:
    """The same in a pool, for rows that join later; "none" commits nothing. ``SettingError`` for an unknown kind."""
    return PagedKV(pool, keeps=False) if kind == "none" else _known(_PAGED, kind)(pool)


def _known(kinds: dict[str, Any], kind: str) -> Any:
    if kind not in kinds:
        raise SettingError(f"unknown memory {kind!r}; pass exact, block, prefix or none")
    return kinds[kind]
