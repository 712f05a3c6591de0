"""What is printed where: results to stdout, progress and remarks to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from .command import leader

__all__ = ["print_json", "say", "table"]


def say(text: str = "") -> None:
    """A remark on stderr, by the first process only."""
    if leader():
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON value on one line of stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """A table on stdout: drawn in a terminal, plain columns elsewhere."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    numbers = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(head))]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for name, number in zip(head, numbers, strict=True):
            drawn.add_column(name, justify="right" if number else "left")
        for row in cells:
            drawn.add_row(*(Text(cell) for cell in row))
        Console(highlight=False).print(drawn)
        return
    if title:
        print(title)
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    for row in [list(head), *cells]:
        parts = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numbers, strict=True)]
        print("  ".join(parts).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
