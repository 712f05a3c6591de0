"""What a forward is given besides the row: masks for what may follow. One way per file."""

from .branches import Branches
from .protocol import Lookahead

__all__ = ["Branches", "Lookahead"]
