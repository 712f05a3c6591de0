"""Generation: the one loop, its events, and what it refuses."""

from .ahead import WalkAhead
from .events import OPEN, Event, Result, collect
from .generate import generate
from .walk import Asked, Feed, Guide, Head, Row, Walk

__all__ = [
    "OPEN",
    "Asked",
    "Event",
    "Feed",
    "Guide",
    "Head",
    "Result",
    "Row",
    "Walk",
    "WalkAhead",
    "collect",
    "generate",
]
