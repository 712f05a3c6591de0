"""What of the past is kept, in what form: a file per kind of memory."""

from .exact import ExactKV
from .protocol import Memory
from .recompute import Recompute

__all__ = ["ExactKV", "Memory", "Recompute"]
