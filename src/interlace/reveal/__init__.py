"""Reveal rules: which of the candidates of a unit are fixed now. One rule per file.

A new file is found by itself (``rules``); the names below are those of the rules in the box, for typed imports.
"""

from __future__ import annotations

import functools
from typing import Any

from ..discovery import parts
from .ancestral import Ancestral
from .damped import Damped, Doubled, Evenly
from .dependence import DependenceBounded
from .dynamic import Dynamic
from .entropy import EntropyBounded
from .first_alone import FirstAlone
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
    "FirstAlone",
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
    "rules",
    "top",
]


@functools.cache
def rules() -> dict[str, type[Any]]:
    """The rules of this folder by name; those that are made of another rule are among them.

    >>> rules()["near-certain"]()
    NearCertain(entropy=0.4, penalty=0.02)
    """
    return parts(__name__, Reveal)
