"""In which order the tokens of a forward stand physically, when it is not that of their places. One way per file."""

from .observed_first import ObservedFirst
from .protocol import Arrangement, taken

__all__ = ["Arrangement", "ObservedFirst", "taken"]
