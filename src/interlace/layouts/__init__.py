"""How a sample is cut into units, with which positions: a file per way to cut."""

from .blocks import Blocks
from .frames import Frames
from .protocol import Layout
from .squares import Squares

__all__ = ["Blocks", "Frames", "Layout", "Squares"]
