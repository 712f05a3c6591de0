"""Constraints: what a text must match, as an automaton over tokens."""

from .automaton import OPEN, Automaton, lifted
from .constraint import Constraint, json_schema, regex
from .expression import Bytes, compiled
from .kept import Kept
from .stretch import Stretch, Window, stretch
from .vocabulary import Vocabulary, vocabulary

__all__ = [
    "OPEN",
    "Automaton",
    "Bytes",
    "Constraint",
    "Kept",
    "Stretch",
    "Vocabulary",
    "Window",
    "compiled",
    "json_schema",
    "lifted",
    "regex",
    "stretch",
    "vocabulary",
]
