"""Attention of many rows packed behind each other, whose keys lie in pages of one pool (vLLM, arXiv:2309.06180).

A pool of keys is cut into pages of a few slots, and a row reads its keys through a table of pages: rows grow without
being moved, share pages, and leave none reserved. Only here are packed tokens told apart into rows.

On a processor this is compiled (paged.cpp): nothing is copied or padded, and a query's result depends, to the bit, on
its own row's visible keys alone. Elsewhere, and for gradients, rows of similar sizes are gathered and padded for SDPA.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compiled import compiled
from ..errors import SettingError
from .dense import attend_dense

__all__ = ["EvenPages", "Pages", "attend_pages", "library"]

_TYPES = {torch.float32: 0, torch.bfloat16: 1}
_NUMBERS = (
    "count", "tokens", "heads", "kv_heads", "head_dim", "page", "k_slot", "k_head", "v_slot", "v_head",
)  # fmt: skip
_PLACES = ("q", "k", "v", "out")


# The structure of paged.cpp, field by field.
class _Call(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _PLACES),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled source, or None where nothing can be compiled."""
    found = compiled(Path(__file__).with_name("paged.cpp"))
    if found is not None:
        number = ctypes.c_int
        found.interlace_attend.argtypes = [number, number, ctypes.c_void_p, number]
        found.interlace_attend.restype = None
    return found


@dataclass(frozen=True, eq=False)
class Pages:
    """Which packed queries are of which row, and which slots of the pool are its keys. Made anew for every forward.

    Row r has the queries ``starts[r]`` to ``starts[r + 1]`` and reads its keys 0 to ``reads[r]``; key j lies in slot
    ``tables[r, j // size] * size + j % size``.

    Args:
        tables: int64 [rows, most pages], the pages of every row in their order, padded with 0.
        size: slots of a page.
        starts: rows + 1 numbers, from 0 to the number of queries.
        reads: how many keys every row reads.
        masks: for every row boolean [its queries, its keys], True = may see, or None: they see all that is read. A
            query that sees nothing gets zeros.

    Raises ``SettingError`` for sizes that contradict each other.

    >>> pages = Pages(torch.tensor([[2, 0], [1, 3]]), 4, [0, 1, 3], [3, 6], [None, None])
    >>> pool = torch.randn(16, 1, 8)
    >>> attend_pages(torch.randn(1, 2, 3, 8), pool, pool, pages).shape
    torch.Size([1, 2, 3, 8])
    """

    tables: Tensor
    size: int
    starts: list[int]
    reads: list[int]
    masks: list[Tensor | None]

    def __post_init__(self) -> None:
        rows = len(self.reads)
        if self.size < 1:
            raise SettingError(f"a page of {self.size} slots; pass 1 or more")
        if self.tables.dim() != 2 or self.tables.dtype != torch.int64:
            kind = str(self.tables.dtype).removeprefix("torch.")
            raise SettingError(f"tables are {kind} {list(self.tables.shape)}; pass int64 [rows, most pages]")
        if not len(self.tables) == len(self.masks) == len(self.starts) - 1 == rows:
            sizes = f"{len(self.tables)} tables, {len(self.masks)} masks and {len(self.starts)} starts"
            raise SettingError(f"{sizes} for {rows} rows; pass a table and a mask for every row, and rows + 1 starts")
        if self.starts[0] != 0 or any(a > b for a, b in zip(self.starts, self.starts[1:], strict=False)):
            raise SettingError(f"starts are {self.starts}; pass offsets that begin with 0 and do not fall")
        room = self.tables.shape[1] * self.size
        for r, (reads, mask) in enumerate(zip(self.reads, self.masks, strict=True)):
            if not 0 <= reads <= room:
                raise SettingError(f"row {r} reads {reads} keys of {room} that its pages hold; pass more pages")
            shape = (self.starts[r + 1] - self.starts[r], reads)
            if mask is not None and (mask.dtype != torch.bool or mask.shape != shape):
                kind = str(mask.dtype).removeprefix("torch.")
                raise SettingError(f"the mask of row {r} is {kind} {list(mask.shape)}; pass bool {list(shape)}")

    @property
    def host(self) -> bool:
        """Whether looking at the tables costs nothing: on a CPU."""
        return self.tables.device.type == "cpu"

    @cached_property
    def last(self) -> int:
        """The highest page named, where looking costs nothing."""
        if not self.host or not self.tables.numel():
            return 0
        low, high = (int(page) for page in self.tables.aminmax())
        if low < 0:
            raise SettingError(f"page {low} in a table; pages are counted from 0, and tables padded with 0")
        return high

    @cached_property
    def described(self) -> tuple[Tensor, list[Tensor]]:
        """The rows of paged.cpp, int64 [rows, 6]; and what their pointers point to."""
        tables = self.tables.contiguous()
        masks = [None if mask is None or mask.stride(1) == 1 else mask.contiguous() for mask in self.masks]
        masks = [one if mine is None else mine for one, mine in zip(self.masks, masks, strict=True)]
        first, width = tables.data_ptr(), 8 * tables.shape[1]
        told = [
            (first + r * width, mask.data_ptr() if mask is not None else 0, start, end - start, reads,
             mask.stride(0) if mask is not None else 0)
            for r, (start, end, reads, mask) in enumerate(
                zip(self.starts, self.starts[1:], self.reads, masks, strict=False)
            )
        ]  # fmt: skip
        return torch.tensor(told, dtype=torch.int64).view(-1, 6), [tables, *(m for m in masks if m is not None)]

    @cached_property
    def groups(self) -> list[_Group]:
        """Rows of similar sizes, padded: what is gathered for SDPA."""
        return list(_groups(self))


class EvenPages(Pages):
    """``Pages`` of rows padded to the same number of queries, none of whose numbers the host knows: its tensors may be
    filled with others and a recorded forward be played again (CUDA graphs).

    Args:
        tables: as of ``Pages``; [rows, pages].
        size: slots of a page.
        queries: of every row, padding included.
        ends: int64 [rows], how many keys every row reads; 0 in a row that is padding, which gets zeros.
        seen: boolean [rows, queries, pages * size], True = may see, if it is read at all.

    >>> tables, ends = torch.tensor([[2, 0], [0, 0]]), torch.tensor([3, 0])
    >>> pages = EvenPages(tables, 4, 2, ends, torch.ones(2, 2, 8, dtype=torch.bool))
    >>> pool = torch.randn(16, 1, 8)
    >>> attend_pages(torch.randn(1, 2, 4, 8), pool, pool, pages)[0, :, 2:].count_nonzero().item()
    0
    """

    def __init__(self, tables: Tensor, size: int, queries: int, ends: Tensor, seen: Tensor) -> None:
        rows, width = tables.shape
        starts = list(range(0, rows * queries + 1, queries))
        super().__init__(tables, size, starts, [width * size] * rows, [None] * rows)
        if ends.shape != (rows,) or seen.shape != (rows, queries, width * size) or seen.dtype != torch.bool:
            raise SettingError(
                f"ends are {list(ends.shape)} and what is seen is {list(seen.shape)}; pass [{rows}], and boolean "
                f"[{rows}, {queries}, {width * size}]"
            )
        object.__setattr__(self, "ends", ends)
        object.__setattr__(self, "seen", seen)

    ends: Tensor
    seen: Tensor

    @property
    def host(self) -> bool:
        return False

    @cached_property
    def groups(self) -> list[_Group]:
        device = self.tables.device
        within = torch.arange(self.seen.shape[2], device=device) < self.ends[:, None]
        slots = self.tables[:, :, None] * self.size + torch.arange(self.size, device=device)
        mask = (self.seen & within[:, None])[:, None]
        blind = ~mask.any(-1, keepdim=True)
        queries = torch.arange(self.starts[-1], device=device)
        slots = torch.where(within, slots.flatten(1), 0)
        return [_Group(queries, queries, slots, mask.any(2)[..., None], mask | blind, blind)]


class _Group(NamedTuple):
    """g rows padded to n queries and m keys. queries: their places among the packed, [g * n]; own: which of them are no
    padding; slots: [g, m]; read: whether any query sees a key, [g, 1, m, 1]; mask: [g, 1, n, m]; blind: whether a query
    sees nothing, [g, 1, n, 1]. The last three are None where everything is seen."""

    queries: Tensor
    own: Tensor
    slots: Tensor
    read: Tensor | None
    mask: Tensor | None
    blind: Tensor | None


def _groups(pages: Pages) -> Iterator[_Group]:
    device = pages.tables.device
    kinds: dict[tuple[int, int], list[int]] = {}
    for r, reads in enumerate(pages.reads):
        if n := pages.starts[r + 1] - pages.starts[r]:
            # at most twice as many queries and four times as many keys as there are
            kinds.setdefault(((n - 1).bit_length(), (reads.bit_length() + 1) // 2), []).append(r)
    for rows in kinds.values():
        n = max(pages.starts[r + 1] - pages.starts[r] for r in rows)
        m = max(1, *(pages.reads[r] for r in rows))
        starts = torch.tensor([pages.starts[r] for r in rows])
        counts = torch.tensor([pages.starts[r + 1] - pages.starts[r] for r in rows])
        step = torch.arange(n)
        real = step < counts[:, None]
        queries = torch.where(real, starts[:, None] + step, starts[:, None])
        own = real.flatten().nonzero()[:, 0]
        ends = torch.tensor([pages.reads[r] for r in rows]).to(device)
        keys = torch.arange(m, device=device)
        within = keys < ends[:, None]
        which = torch.where(within, keys // pages.size, 0)
        table = pages.tables[torch.tensor(rows, device=device)]
        slots = table.gather(1, which) * pages.size + keys % pages.size if table.shape[1] else which
        slots = torch.where(within, slots, 0)
        queries, own = queries.flatten().to(device), own.to(device)
        if all(pages.masks[r] is None and pages.reads[r] == m for r in rows):
            yield _Group(queries, own, slots, None, None, None)
            continue
        mask = within[:, None].repeat(1, n, 1)
        for i, r in enumerate(rows):
            if (told := pages.masks[r]) is not None:
                mask[i] = F.pad(told, (0, m - told.shape[1], 0, n - told.shape[0]))
        mask = mask[:, None]
        blind = ~mask.any(-1, keepdim=True)
        # a query that sees nothing sees everything instead, and its result is dropped: no softmax of nothing
        yield _Group(queries, own, slots, mask.any(2)[..., None], mask | blind, blind)


def attend_pages(q: Tensor, k: Tensor, v: Tensor, pages: Pages) -> Tensor:
    """softmax(q k^T / sqrt(d)) v in every row where its mask allows; packed q [1, heads, tokens, d] -> the same.

    k and v are the pool, [slots, kv_heads, d]; a slot that nobody sees may hold anything. The compiled form takes
    float32 and bfloat16 and sums in float32; there a key that one query sees and another does not may hold anything
    for the other.

    Raises ``SettingError`` for tensors that do not fit each other or the pages.
    """
    _check(q, k, v, pages)
    if _compilable(q, k, v, pages):
        return _native(q, k, v, pages)
    out = q.new_zeros(q.shape)
    _, heads, _, d = q.shape
    for queries, own, slots, read, mask, blind in pages.groups:
        g = len(slots)
        near = (t[slots].transpose(1, 2).to(q.dtype) for t in (k, v))
        # NaN times zero is NaN
        keys, values = near if read is None else (t.masked_fill(~read, 0) for t in near)
        seen = attend_dense(q[0, :, queries].view(heads, g, -1, d).transpose(0, 1), keys, values, mask)
        if blind is not None:
            seen = seen.masked_fill(blind, 0)
        out = out.index_copy(2, queries[own], seen.transpose(0, 1).reshape(1, heads, -1, d)[:, :, own])
    return out


def _check(q: Tensor, k: Tensor, v: Tensor, pages: Pages) -> None:
    if q.dim() != 4 or q.shape[0] != 1 or q.shape[2] != pages.starts[-1]:
        raise SettingError(f"queries are {list(q.shape)}; pass [1, heads, {pages.starts[-1]}, d], all rows packed")
    if k.dim() != 3 or k.shape != v.shape or k.shape[2] != q.shape[3] or not k.shape[1] or q.shape[1] % k.shape[1]:
        heads, d = q.shape[1], q.shape[3]
        raise SettingError(
            f"keys are {list(k.shape)} and values {list(v.shape)}; pass the pool of both, [slots, kv_heads, {d}], with "
            f"kv_heads that divide {heads}"
        )
    if k.shape[0] < (pages.last + 1) * pages.size and any(pages.reads):
        raise SettingError(
            f"a table names page {pages.last}, and {k.shape[0]} slots are {k.shape[0] // pages.size} pages of "
            f"{pages.size}; pass the whole pool"
        )


def _compilable(q: Tensor, k: Tensor, v: Tensor, pages: Pages) -> bool:
    near = pages.host and all(t.device.type == "cpu" for t in (q, k, v))
    known = q.dtype in _TYPES and k.dtype in _TYPES and k.dtype == v.dtype and k.stride(2) == v.stride(2) == 1
    learnt = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    return near and known and not learnt and library() is not None


def _native(q: Tensor, k: Tensor, v: Tensor, pages: Pages) -> Tensor:
    found = library()
    assert found is not None
    rows, _held = pages.described
    q = q.contiguous()
    out = torch.empty_like(q)
    _, heads, tokens, d = q.shape
    call = _Call(
        rows.data_ptr(), len(rows), tokens, heads, k.shape[1], d, pages.size, *k.stride()[:2], *v.stride()[:2],
        q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    found.interlace_attend(_TYPES[q.dtype], _TYPES[k.dtype], ctypes.addressof(call), torch.get_num_threads())
    return out
