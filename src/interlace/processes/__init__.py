"""How a unit is corrupted and restored: one process per file."""

from .absorbing import AbsorbingMask
from .biased import Biased
from .constrained import Constrained, ConstrainedDrafts
from .flow import FlowMatching
from .gaussian import Gaussian
from .next_token import NextToken
from .protocol import Advanced, Process, Turn
from .speculative import Speculative
from .uniform import UniformTokens

__all__ = [
    "AbsorbingMask",
    "Advanced",
    "Biased",
    "Constrained",
    "ConstrainedDrafts",
    "FlowMatching",
    "Gaussian",
    "NextToken",
    "Process",
    "Speculative",
    "Turn",
    "UniformTokens",
]
