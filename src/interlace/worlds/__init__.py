"""Embedded data: corpora, puzzles and clips that need no download, and verifiers that need no network.

Every world is a file of its own and is imported by name, ``from interlace.worlds.corpus import open_corpus``; to
import the package costs nothing.
"""
