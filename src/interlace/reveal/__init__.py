"""Reveal rules: which of the candidates of a unit are fixed now. One rule per file."""

from .ancestral import Ancestral
from .damped import Damped, Doubled, Evenly
from .dependence import DependenceBounded
from .dynamic import Dynamic
from .entropy import EntropyBounded
from .largest_margin import LargestMargin
from .leading import Leading
from .least_uncertain import LeastUncertain
from .near_certain import NearCertain
from .protocol import Proposal, Reveal, top
from .sequential import Sequential
from .static import Static
from .tempered import Tempered
from .threshold import Threshold

__all__ = [
    "Ancestral",
    "Damped",
    "DependenceBounded",
    "Doubled",
    "Dynamic",
    "EntropyBounded",
    "Evenly",
    "LargestMargin",
    "Leading",
    "LeastUncertain",
    "NearCertain",
    "Proposal",
    "Reveal",
    "Sequential",
    "Static",
    "Tempered",
    "Threshold",
    "top",
]
