"""JSON lines: one object on every line, read with the place of each, and written so that nothing is lost."""

from __future__ import annotations

import errno
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import DataError, unwritable

__all__ = ["read_objects", "written_objects"]


def read_objects(path: str | os.PathLike[str], example: str = "text") -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(where, line number from 1, object) of every line that is not blank; ``example``: a key that a remedy shows.

    A file ``*.gz`` is unpacked as it is read. Raises ``DataError``, with file and line: not readable, not UTF-8, not
    JSON, no object, or nothing at all.
    """
    path = Path(path)
    found = False
    for number, data in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        if not data.strip():
            continue
        try:
            row = json.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise DataError(f"{where}: not UTF-8; convert the file, e.g. with iconv -t UTF-8") from None
        except (ValueError, RecursionError):
            raise DataError(f"{where}: not JSON; put one JSON object on every line") from None
        if not isinstance(row, dict):
            raise DataError(f'{where}: not a JSON object; write {{"{example}": ...}} on every line')
        found = True
        yield where, number, row
    if not found:
        raise DataError(f"{path} is empty; put one JSON object on every line")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield from stream
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read ({why}); check the path and its permissions") from None


@contextmanager
def written_objects(path: str | os.PathLike[str]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Inside, what is given to the function is a line of ``path``, which appears when it is whole.

    Until then the lines stand in ``path`` + ``.partial``, where a run that is stopped leaves them. Raises ``DataError``
    for a place that cannot be written, and for a full disk.

    >>> with written_objects("verdicts.jsonl") as write:      # doctest: +SKIP
    ...     write({"right": True})
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        if target.is_dir():  # which only the renaming at the end would notice
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        stream = partial.open("w", encoding="utf-8", errors="replace")
    except OSError as error:
        raise unwritable(target, error) from None

    def write(row: dict[str, Any]) -> None:
        try:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
        except OSError as error:
            raise unwritable(partial, error) from None

    with stream:
        yield write
        try:
            os.fsync(stream.fileno())
            os.replace(partial, target)
        except OSError as error:
            raise unwritable(target, error) from None
