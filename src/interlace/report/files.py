"""Writing a file as a whole: a reader sees the old text or the new one, never a part."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import unwritable

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` under another name beside ``path`` and rename it; folders are made. Returns the path.

    Raises ``DataError`` when the place cannot be written or is full; what was there before stays as it was.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(target, error) from None
    return target
