"""Keys and values in pages of one pool, which many rows share."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from ..errors import SettingError
from .protocol import Span

__all__ = ["PagedKV", "Pool"]


class Pool:
    """So many pages of ``size`` tokens for every layer; slot ``page * size + offset`` holds one token's key and value.

    A page has as many owners as rows that read it, and may be published under a key that says what it holds; pages
    without owner that are published stay until room is needed, the least recently used going first.
    Storage is allocated once, float [layers, 2, pages * size + 1, kv_heads, head_dim]; the last slot, ``spare``, is of
    no page and takes what is nobody's.

    Source: PagedAttention (arXiv:2309.06180). Raises ``SettingError`` for a pool without pages.

    >>> pool = Pool(layers=1, kv_heads=1, head_dim=2, pages=2, size=4)
    >>> pages = pool.take(2); pool.publish(pages[0], b"first"); pool.release(pages)
    >>> pool.available, pool.shared(b"first") == pages[0], pool.available
    (2, True, 1)
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        pages: int,
        size: int = 16,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if pages < 1 or size < 1:
            raise SettingError(f"a pool of {pages} pages of {size} tokens holds nothing; pass 1 or more of both")
        # zeros, not empty: the kernel of PyTorch multiplies what it masks, and NaN times zero is NaN
        self.storage = torch.zeros((layers, 2, pages * size + 1, kv_heads, head_dim), dtype=dtype, device=device)
        self.pages, self.size, self.spare = pages, size, pages * size
        self._layers = [tuple(layer.unbind(0)) for layer in self.storage.unbind(0)]
        self._owners = [0] * pages
        self._free = list(range(pages - 1, -1, -1))
        self._named: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # published pages without owner, the oldest first

    @property
    def available(self) -> int:
        """Pages that can be taken."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        """Pages that rows own."""
        return self.pages - self.available

    def take(self, count: int) -> list[int]:
        """``count`` pages, now owned once. Raises ``SettingError`` when there are not as many."""
        if count > self.available:
            raise SettingError(f"{count} pages are wanted, {self.available} are left; give the memory more room")
        taken = []
        for _ in range(count):
            if self._free:
                page = self._free.pop()
            else:
                page, _ = self._idle.popitem(last=False)
                del self._named[self._names.pop(page)]
            self._owners[page] = 1
            taken.append(page)
        return taken

    def shared(self, key: bytes) -> int | None:
        """The page published under a key, owned once more; None when there is none."""
        page = self._named.get(key)
        if page is not None:
            self._owners[page] += 1
            self._idle.pop(page, None)
        return page

    def publish(self, page: int, key: bytes) -> None:
        """Let others find a page that will not change any more; the first one under a key stays."""
        if key not in self._named and page not in self._names:
            self._named[key], self._names[page] = page, key

    def release(self, pages: list[int]) -> None:
        """Give up pages, from the last: of a row that nobody goes on with, the beginning is kept the longest."""
        for page in reversed(pages):
            self._owners[page] -= 1
            if not self._owners[page]:
                if page in self._names:
                    self._idle[page] = None
                else:
                    self._free.append(page)

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Place k, v [1, kv_heads, n, d] at slots [1, n]; the storage of the layer, [slots, kv_heads, d]."""
        keys, values = self._layers[layer]
        keys.index_copy_(0, slots[0], k[0].transpose(0, 1).to(keys.dtype))
        values.index_copy_(0, slots[0], v[0].transpose(0, 1).to(values.dtype))
        return keys, values


class PagedKV:
    """The memory of some rows that lies in the pages of a pool: ``ExactKV`` of rows that come and go.

    tables[r]: the pages of row r, in order. ``keeps`` False commits nothing, so that every forward is given all that it
    may see; its keys lie in the row's pages until the next one.
    """

    stale = False
    """Whether what lies behind the committed keys is read again, so that a row cannot do without its pages."""

    def __init__(self, pool: Pool, keeps: bool = True) -> None:
        self.pool, self.keeps = pool, keeps
        self.lengths: list[int] = []
        self.tables: list[list[int]] = []

    def join(self, pages: list[int]) -> None:
        """A row more, whose first tokens fill these pages, which it owns."""
        self.tables.append(list(pages))
        self.lengths.append(len(pages) * self.pool.size)

    def lacks(self, r: int, tokens: int) -> int:
        """How many more pages row r needs to hold so many tokens."""
        return max(0, -(-tokens // self.pool.size) - len(self.tables[r]))

    def hold(self, r: int, tokens: int) -> None:
        """Take pages so that row r can hold so many tokens. Raises ``SettingError`` when there are none left."""
        self.tables[r] += self.pool.take(self.lacks(r, tokens))

    def span(self, row: int, first: int, last: int, horizon: int, begun: bool) -> Span:
        return Span(self.lengths[row], horizon, horizon)

    def open(self, ends: list[int], rows: list[int] | None = None) -> int:
        return max(ends)

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool.write(layer, k, v, slots)

    def commit(self, lengths: list[int]) -> None:
        if any(new < old for new, old in zip(lengths, self.lengths, strict=True)):
            raise SettingError(f"commit cannot shorten {self.lengths} to {lengths}; use truncate")
        if self.keeps:
            self.lengths = list(lengths)

    def truncate(self, lengths: list[int]) -> None:
        """Forget everything behind the given lengths."""
        self.lengths = [min(old, new) for old, new in zip(self.lengths, lengths, strict=True)]

    def keep(self, rows: list[int]) -> None:
        for r in set(range(len(self.tables))) - set(rows):
            self.pool.release(self.tables[r])
        self.tables = [self.tables[r] for r in rows]
        self.lengths = [self.lengths[r] for r in rows]

    def physical(self, rows: list[int], slots: Tensor) -> tuple[Tensor, Tensor]:
        """Tables of some rows int64 [rows, most pages], and where their slots [rows, n] lie in the pool."""
        most = max(len(self.tables[r]) for r in rows)
        tables = torch.tensor([self.tables[r] + [0] * (most - len(self.tables[r])) for r in rows], dtype=torch.long)
        tables = tables.to(slots.device)
        page = (slots // self.pool.size).clamp_max(most - 1)
        return tables, tables.gather(1, page) * self.pool.size + slots % self.pool.size
