"""Checkpoints: a network with its tokenizer, in the published formats. A new format is one new file in this folder.

>>> checkpoint = load("Qwen3-0.6B")                     # doctest: +SKIP
>>> save(checkpoint, "adapted", dtype="bfloat16")       # doctest: +SKIP
"""

from .format import Checkpoint, Family, Piece, Summary, expressible, families, load, save, summary

__all__ = ["Checkpoint", "Family", "Piece", "Summary", "expressible", "families", "load", "save", "summary"]
