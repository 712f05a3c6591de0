"""The claims board: every record of ``results/`` as a page of the documentation and as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .files import write_whole

if TYPE_CHECKING:
    from ..claims.protocol import Record

__all__ = ["markdown", "render"]


def render(folder: str | os.PathLike[str], docs: str | os.PathLike[str] | None = None) -> list[Path]:
    """Write the board of all records in ``folder``: ``docs`` (where that page exists). Returns what was written."""
    from ..claims.protocol import read_records

    records = read_records(folder)
    if docs is not None and Path(docs).is_file():
        return [write_whole(docs, markdown(records))]
    return []


def markdown(records: Sequence[Record]) -> str:
    """The board as Markdown."""
    return "# Claims\n\n" + "".join(f"- {r.title}: {r.verdict}\n" for r in records)
