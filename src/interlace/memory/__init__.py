"""What of the past is kept, in what form: a file per kind of memory."""

from .block import BlockCache
from .exact import ExactKV
from .protocol import Memory, Span
from .recompute import Recompute

__all__ = ["BlockCache", "ExactKV", "Memory", "Recompute", "Span"]
