"""What was worked out once, results and refusals alike, within bounds of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ..errors import SettingError

__all__ = ["Kept"]

T = TypeVar("T")


class Kept(Generic[T]):
    """The last results, or refusals, of something that takes long: ``count`` of them, of ``limit`` bytes together.

    >>> kept = Kept(lambda text: len(text), count=2)
    >>> [kept.get(key, lambda key=key: key * 2) for key in "abca"], len(kept)
    (['aa', 'bb', 'cc', 'aa'], 2)
    """

    def __init__(self, size: Callable[[T], int], count: int = 64, limit: int = 256 << 20) -> None:
        self._size, self._count, self._limit = size, count, limit
        self._found: OrderedDict[Hashable, tuple[T | SettingError, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._found

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under this key, or else is made; a ``SettingError`` is kept as well, and raised again."""
        with self._lock:
            known = self._found.get(key)
            if known is not None:
                self._found.move_to_end(key)
        if known is None:
            try:
                known = make(), 0
            except SettingError as error:
                known = SettingError(str(error)), 0  # without the traceback, which would keep more alive
            self.put(key, known[0])
        if isinstance(known[0], SettingError):
            raise SettingError(str(known[0]))
        return known[0]

    def put(self, key: Hashable, value: T | SettingError) -> None:
        """Keep what was worked out elsewhere."""
        size = 0 if isinstance(value, SettingError) else self._size(value)
        with self._lock:
            _, before = self._found.pop(key, (None, 0))
            self._found[key] = value, size
            self._bytes += size - before
            while len(self._found) > self._count or (self._bytes > self._limit and len(self._found) > 1):
                _, (_, gone) = self._found.popitem(last=False)
                self._bytes -= gone
