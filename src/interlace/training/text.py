"""Text runs from end to end: a corpus and a tokenizer become rows, a network and an objective become a model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..nn import Transformer, TransformerConfig
from ..worlds.corpus import Document, installed_sources, open_corpus, standard_library, stdlib_tests
from ..worlds.packing import PackedRows, tokenize_corpus
from .batch import TextRows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["TextData", "fresh_network", "mixture"]


def mixture(spec: str, split: str, **options: Any) -> Iterator[Document]:
    """Documents of a corpus, or of several joined by commas, each with an optional repetition ``*N`` (training only).

    ``stdlib*3,installed`` is three passes over the standard library for each over the installed packages.
    """
    for part in spec.split(","):
        name, _, times = part.strip().partition("*")
        for _ in range(int(times or 1) if split == "train" else 1):
            if name == "installed":
                yield from installed_sources(options.get("limit_bytes")) if split == "train" else ()
            elif name == "tests":
                yield from stdlib_tests() if split == "train" else ()
            else:
                yield from open_corpus(name, split, **options)  # type: ignore[arg-type]


@dataclass
class TextData:
    """Training and held-out rows of a corpus under a tokenizer.

    ``length`` tokens a row; documents end on multiples of ``multiple`` (the block size of the model to train).
    """

    corpus: str
    tokenizer: Tokenizer
    length: int
    multiple: int = 1
    seed: int = 0
    cache: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def rows(self, split: str = "train") -> TextRows:
        tokens = tokenize_corpus(mixture(self.corpus, split, **self.options), self.tokenizer, self.cache)
        return TextRows(PackedRows(tokens, self.length, self.multiple, self.seed, pad_id=0))


def fresh_network(config: TransformerConfig, seed: int) -> Transformer:
    """A network with random weights that depend on the seed alone."""
    return Transformer(config).initialise(torch.Generator().manual_seed(seed))


def first(documents: Iterator[Document], limit: int) -> list[Document]:
    """At most ``limit`` documents."""
    return list(itertools.islice(documents, limit))


_ = standard_library  # re-exported for callers that train a tokenizer
