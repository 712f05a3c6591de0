"""Text as training rows: corpora, mixtures of them, tokenizers, packing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import SettingError
from ..worlds.corpus import Document, installed_sources, open_corpus, stdlib_tests
from ..worlds.packing import PackedRows, tokenize_corpus
from .batch import Rows, TextRows
from .suffix_first import SuffixFirst

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["DataSettings", "mixture", "text_rows"]


class DataSettings(BaseModel):
    """Where text comes from and how it is cut into rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = Field(
        "stdlib",
        description="corpus: stdlib, installed, tests, additions, sums, countdown, sudoku, a file or folder, hf:NAME; "
        "several joined by commas, each with *N to repeat it",
    )
    length: int = Field(512, ge=8, description="tokens per row")
    limit_bytes: int | None = Field(None, ge=1, description="bound on the bytes taken of the installed packages")
    field: str = Field("text", description="field of a JSON-lines file or data set that holds the text")
    suffix_first: float = Field(
        0.0, ge=0, le=1, description="share of documents read suffix first, which teaches block diffusion to infill"
    )
    cache: Path | None = Field(None, description="folder that keeps tokenised corpora")


def mixture(settings: DataSettings, split: str) -> Iterator[Document]:
    """Documents of ``settings.data``; repetitions ``*N`` count in training only.

    ``stdlib*3,installed`` is three passes over the standard library for each over the installed packages.
    """
    for part in settings.data.split(","):
        name, _, times = part.strip().partition("*")
        if times and not times.isdigit():
            raise SettingError(f"data {part!r}: the repetition {times!r} is not a number; write name*3")
        for _ in range(int(times or 1) if split == "train" else 1):
            if name == "installed":
                yield from installed_sources(settings.limit_bytes) if split == "train" else ()
            elif name == "tests":
                yield from stdlib_tests() if split == "train" else ()
            else:
                yield from open_corpus(name, split, field=settings.field)  # type: ignore[arg-type]


def text_rows(
    settings: DataSettings,
    tokenizer: Tokenizer,
    split: str = "train",
    multiple: int = 1,
    seed: int = 0,
    pad_id: int = 0,
    end_id: int | None = None,
) -> Rows:
    """Packed rows of a corpus; every document ends on a multiple of ``multiple`` tokens, with ``end_id``.

    Raises ``SettingError`` when a row does not hold a whole number of blocks, ``DataError`` for an unreadable corpus.
    """
    if settings.length % multiple:
        raise SettingError(f"rows of {settings.length} tokens do not hold whole blocks of {multiple}; change length")
    tokens = tokenize_corpus(mixture(settings, split), tokenizer, settings.cache, end_id=end_id)
    rows: Rows = TextRows(PackedRows(tokens, settings.length, multiple, seed, pad_id))
    if settings.suffix_first and split == "train":
        rows = SuffixFirst(rows, settings.suffix_first, seed=seed)
    return rows


def describe(rows: Rows) -> dict[str, Any]:
    """Rows in an epoch, and the share of their places that hold text."""
    inner: Any = rows.rows if isinstance(rows, SuffixFirst) else rows
    return {"rows": inner.packed.rows_per_epoch, "fill": inner.packed.fill}
