"""What of the past is kept, in what form: a file per kind of memory."""

from .block import BlockCache, PrefixCache
from .exact import ExactKV
from .protocol import Memory, Span
from .recompute import Recompute

__all__ = ["BlockCache", "ExactKV", "Memory", "PrefixCache", "Recompute", "Span"]
