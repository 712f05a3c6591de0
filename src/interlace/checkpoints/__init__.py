"""Checkpoints: a network with its tokenizer, in the published formats. A new format is one new file in this folder.

>>> checkpoint = load("Qwen3-0.6B")                     # doctest: +SKIP
>>> save(checkpoint, "adapted", dtype="bfloat16")       # doctest: +SKIP
"""

from .config_class import ConfigClass
from .format import Checkpoint, Family, Piece, Summary, expressible, families, inexpressible, load, save, summary

__all__ = ["Checkpoint", "ConfigClass", "Family", "Piece", "Summary", "expressible", "families", "inexpressible",
           "load", "save", "summary"]  # fmt: skip
