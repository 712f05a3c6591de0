"""Where the noise of a training row falls. One way per file."""

from .counted import Counted
from .everything import Everything
from .independent import Independent
from .protocol import Masking
from .redrawn import Redrawn

__all__ = ["Counted", "Everything", "Independent", "Masking", "Redrawn"]
