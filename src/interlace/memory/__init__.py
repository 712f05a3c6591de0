"""What of the past is kept, in what form: a file per kind of memory."""

from .block import BlockCache, PagedBlockCache, PagedPrefixCache, PrefixCache
from .exact import ExactKV
from .kinds import own, paged
from .paged import PagedKV, Pool
from .protocol import Memory, Span
from .recompute import Recompute

__all__ = [
    "BlockCache",
    "ExactKV",
    "Memory",
    "PagedBlockCache",
    "PagedKV",
    "PagedPrefixCache",
    "Pool",
    "PrefixCache",
    "Recompute",
    "Span",
    "own",
    "paged",
]
