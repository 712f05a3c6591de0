"""A progress bar for measurements, on stderr and only in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["watched"]

T = TypeVar("T")


def watched(items: Iterable[T], total: int, name: str, enabled: bool) -> Iterator[T]:
    """The same items; while they pass, a bar of ``total`` with that name, if enabled and stderr is a terminal."""
    if not (enabled and sys.stderr.isatty()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total)
