"""Packed rows over pages give what every row gives by a few lines of softmax; compiled, to the bit in any mix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention import paged
from interlace.attention.kernels import attend
from interlace.attention.paged import Pages, attend_pages, library
from interlace.errors import SettingError

compiled = pytest.mark.skipif(library() is None, reason="no C++ compiler")
HEADS = [(2, 2, 16), (4, 2, 64), (6, 1, 40), (5, 5, 3), (28, 1, 8), (9, 3, 130)]
"""Heads, heads of keys, numbers of a head: more queries of a key than a task has, sizes of whole vectors and others."""


@pytest.fixture(params=[pytest.param("compiled", marks=compiled), "torch"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "torch":
        monkeypatch.setattr(paged, "library", lambda: None)
    yield request.param


class Row:
    """Queries [heads, n, d], keys and values [kv_heads, m, d], and a mask."""

    def __init__(self, n: int, m: int, mask: Tensor | None = None, heads: Any = HEADS[0], seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(1000 * seed + 10 * m + n)
        self.q = torch.randn(heads[0], n, heads[2], generator=generator)
        self.k, self.v = torch.randn(2, heads[1], m, heads[2], generator=generator)
        self.mask = mask

    def chunk(self, first: int, last: int, reads: int) -> Row:
        part = Row.__new__(Row)
        part.q, part.k, part.v = self.q[:, first:last], self.k[:, :reads], self.v[:, :reads]
        part.mask = None if self.mask is None else self.mask[first:last, :reads]
        return part

    def plain(self) -> Tensor:
        shared = self.q.shape[0] // self.k.shape[0]
        k, v = (t.double().repeat_interleave(shared, 0) for t in (self.k, self.v))
        score = self.q.double() @ k.transpose(1, 2) / self.q.shape[-1] ** 0.5
        if self.mask is not None:
            score = score.masked_fill(~self.mask, -torch.inf)
        return score.softmax(-1).nan_to_num(0.0) @ v


def pack(rows: list[Row], size: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    """Arguments of ``attend_pages``: pages in random order, and NaN in every slot that nobody wrote."""
    counts = [-(-row.k.shape[1] // size) for row in rows]
    order = (1 + torch.randperm(sum(counts) + 3, generator=torch.Generator().manual_seed(seed))).split([*counts, 3])
    tables = torch.zeros(len(rows), max(counts), dtype=torch.int64)
    pool = torch.full((2, (sum(counts) + 4) * size, *rows[0].k.shape[::2]), torch.nan, dtype=dtype)
    for row, pages, table in zip(rows, order, tables, strict=False):
        table[: len(pages)] = pages
        slots = (pages[:, None] * size + torch.arange(size)).flatten()[: row.k.shape[1]]
        pool[0, slots], pool[1, slots] = row.k.transpose(0, 1).to(dtype), row.v.transpose(0, 1).to(dtype)
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + row.q.shape[1])
    pages = Pages(tables, size, starts, [row.k.shape[1] for row in rows], [row.mask for row in rows])
    return torch.cat([row.q for row in rows], 1)[None].to(dtype), *pool, pages


def run(rows: list[Row], size: int = 4, **how: Any) -> list[Tensor]:
    """The result of every row, [heads, n, d]."""
    out = attend_pages(*pack(rows, size, **how))
    return list(out[0].split([row.q.shape[1] for row in rows], 1))


def some(n: int, m: int, share: float = 0.5) -> Tensor:
    return torch.rand(n, m, generator=torch.Generator().manual_seed(m)) < share


def causal(n: int, m: int) -> Tensor:
    """The last n of m tokens."""
    return torch.ones(n, m, dtype=torch.bool).tril(m - n)


def ragged(heads: Any) -> list[Row]:
    """Of every kind: one query and many, keys of less than a tile and of several, masks and none, nothing to see."""
    blind = some(5, 130)
    blind[2] = False
    shapes: list[tuple[int, int, Tensor | None]] = [
        (1, 1, None), (1, 200, None), (4, 64, None), (33, 33, causal(33, 33)), (7, 150, causal(7, 150)),
        (1, 129, some(1, 129)), (5, 130, blind), (2, 90, some(2, 90, 0)), (3, 65, some(3, 65, 0.02)),
    ]  # fmt: skip
    return [Row(n, m, mask, heads, seed) for seed, (n, m, mask) in enumerate(shapes)]


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("size", [1, 3, 4, 16, 96])
def test_equal_to_softmax_row_by_row(form: str, heads: Any, size: int) -> None:
    rows = ragged(heads)
    for row, found in zip(rows, run(rows, size), strict=True):
        torch.testing.assert_close(found.double(), row.plain(), rtol=0, atol=3e-6)


def test_float64_is_exact() -> None:
    rows = ragged(HEADS[1])
    for row in rows:
        row.q, row.k, row.v = row.q.double(), row.k.double(), row.v.double()
    for row, found in zip(rows, run(rows, dtype=torch.float64), strict=True):
        torch.testing.assert_close(found, row.plain(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("heads", HEADS[:3], ids=str)
def test_bfloat16_is_rounded_once(form: str, heads: Any) -> None:
    rows = ragged(heads)
    for row in rows:
        row.q, row.k, row.v = (t.bfloat16().float() for t in (row.q, row.k, row.v))
    # the compiled form rounds its result alone: half of the last of 8 bits
    near = {"rtol": 2**-8, "atol": 1e-5} if form == "compiled" else {"rtol": 0, "atol": 0.03}
    for row, found in zip(rows, run(rows, dtype=torch.bfloat16), strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), row.plain(), **near)


def test_queries_may_be_wider_than_the_pool(form: str) -> None:
    rows = ragged(HEADS[1])
    q, k, v, pages = pack(rows, 4)
    k, v = k.bfloat16(), v.bfloat16()
    expected = attend_pages(q, k.float(), v.float(), pages)
    assert attend_pages(q, k, v, pages).dtype == torch.float32
    torch.testing.assert_close(attend_pages(q, k, v, pages), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(attend_pages(q.bfloat16(), k, v, pages).float(), expected, rtol=0, atol=0.05)


@compiled
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_the_same_to_the_bit_alone_and_in_a_mix(heads: Any, dtype: torch.dtype) -> None:
    rows = ragged(heads)
    alone = [run([row], 4, dtype=dtype)[0] for row in rows]
    for size, seed in ((4, 1), (1, 2), (16, 3), (24, 4)):  # and on other pages, of other sizes
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        mixed = run([rows[r] for r in order], size, seed=seed, dtype=dtype)
        assert all(torch.equal(found, alone[r]) for r, found in zip(order, mixed, strict=True))


@compiled
def test_the_number_of_threads_changes_nothing() -> None:
    rows, before, found = ragged(HEADS[1]), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(torch.cat(run(rows), 1))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@compiled
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_chunked_prefill_is_the_whole_one_to_the_bit(heads: Any, dtype: torch.dtype) -> None:
    whole = Row(150, 150, causal(150, 150), heads)
    expected = run([whole], dtype=dtype)[0]
    for chunks in ((64, 128, 150), (1, 2, 3, 70, 149, 150), (100, 150)):
        first = 0
        for last in chunks:
            found = run([Row(2, 80, None, heads), whole.chunk(first, last, last)], dtype=dtype)[1]
            assert torch.equal(found, expected[:, first:last]), (first, last)
            first = last
    # its last query sees everything: no mask is needed
    last = whole.chunk(149, 150, 150)
    last.mask = None
    assert torch.equal(run([last], dtype=dtype)[0], expected[:, 149:])


def test_keys_that_no_one_sees_may_be_nan(form: str) -> None:
    row = Row(6, 140, some(6, 140))
    row.mask[:, [3, 70, 139]] = False
    expected = run([row])[0]
    row.k[:, [3, 70]], row.v[:, [70, 139]] = torch.nan, torch.inf
    assert torch.equal(run([row])[0], expected) and expected.isfinite().all()


@compiled
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_a_key_that_is_nan_reaches_those_who_see_it_alone(heads: Any) -> None:
    row = Row(20, 90, causal(20, 90), heads)
    expected = run([row])[0]
    for broken, first in ((row.v, 80), (row.k, 75)):
        broken[:, first] = torch.nan
        found, blind = run([row])[0], first - 70  # query i sees keys up to 70 + i
        assert torch.equal(found[:, :blind], expected[:, :blind])
        assert found[:, blind:].isnan().all()


def test_scores_far_apart(form: str) -> None:
    row = Row(4, 100, some(4, 100), HEADS[1])
    row.q *= 1e3
    torch.testing.assert_close(run([row])[0].double(), row.plain(), rtol=0, atol=1e-3)
    row.k[:, :, 0] += 1e4  # all scores of a query move together
    assert run([row])[0].isfinite().all()


def test_rows_may_read_nothing_and_ask_nothing(form: str) -> None:
    q, k, v, _ = pack([Row(3, 5)], 4)
    pages = Pages(torch.tensor([[2, 0], [1, 1], [1, 0]]), 4, [0, 0, 2, 3], [4, 0, 2], [None, None, None])
    found = attend_pages(q, torch.nan_to_num(k), torch.nan_to_num(v), pages)
    assert not found[:, :, :2].any() and found[:, :, 2].all()
    nobody = Pages(torch.zeros(0, 1, dtype=torch.int64), 4, [0], [], [])
    assert attend_pages(q[:, :, :0], k, v, nobody).shape == (1, 2, 0, 16)


def test_strided_queries_masks_and_pools(form: str) -> None:
    rows = ragged(HEADS[1])
    q, k, v, pages = pack(rows, 4)
    expected = attend_pages(q, k, v, pages)
    wide = torch.stack([k, v], 1)  # keys and values of a slot beside each other
    masks = [None if mask is None else mask.t().contiguous().t() for mask in pages.masks]
    again = Pages(pages.tables.t().contiguous().t(), 4, pages.starts, pages.reads, masks)
    q = q.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(attend_pages(q, wide[:, 0], wide[:, 1], again), expected)


def test_gradients_are_those_of_softmax() -> None:
    rows = ragged(HEADS[1])
    q, k, v, pages = pack(rows, 4, dtype=torch.float64)
    k, v = k.nan_to_num(7.0), v.nan_to_num(7.0)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    weight = torch.randn(q.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad((attend_pages(*leaves, pages) * weight).sum(), leaves)
    total = torch.zeros((), dtype=torch.float64)
    for r, (first, last) in enumerate(zip(pages.starts, pages.starts[1:], strict=False)):
        keys = torch.arange(pages.reads[r])
        slots = pages.tables[r, keys // 4] * 4 + keys % 4
        score = q[0, :, first:last] @ k[slots].transpose(0, 1).repeat_interleave(2, 0).transpose(1, 2) / 8
        mask = torch.ones(score.shape[1:], dtype=torch.bool) if pages.masks[r] is None else pages.masks[r]
        seen = mask.any(1)
        score = score[:, seen].masked_fill(~mask[seen], -torch.inf)
        out = score.softmax(-1) @ v[slots].transpose(0, 1).repeat_interleave(2, 0)
        total = total + (out * weight[0, :, first:last][:, seen]).sum()
    for one, two in zip(found, torch.autograd.grad(total, leaves), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-10)


@compiled
def test_gradients_are_kept_where_they_are_wanted() -> None:
    q, k, v, pages = pack(ragged(HEADS[1]), 4)
    assert not attend_pages(q, k, v, pages).requires_grad
    q.requires_grad_()
    assert attend_pages(q, k, v, pages).requires_grad
    with torch.no_grad():
        assert not attend_pages(q, k, v, pages).requires_grad


def test_attend_takes_pages(form: str) -> None:
    arguments = pack(ragged(HEADS[1]), 4)
    assert torch.equal(attend(*arguments), attend_pages(*arguments))


def test_a_long_row_does_not_pad_the_short_ones() -> None:
    rows = [Row(1, 260, None, HEADS[0], seed) for seed in range(31)] + [Row(256, 256, causal(256, 256))]
    pages = pack(rows, 4)[3]
    padded = sum(len(group.queries) * group.slots.shape[1] for group in pages.groups)
    assert padded <= 8 * sum(row.q.shape[1] * row.k.shape[1] for row in rows)


def test_sizes_that_contradict_each_other_are_named() -> None:
    table, none = torch.tensor([[0, 1], [2, 3]]), [None, None]
    for told, arguments in {
        "a page of 0 slots": (table, 0, [0, 1, 2], [8, 8], none),
        "tables are int32": (table.int(), 4, [0, 1, 2], [8, 8], none),
        r"tables are int64 \[4\]": (table.flatten(), 4, [0, 1, 2], [8, 8], none),
        "2 tables, 2 masks and 2 starts for 2 rows": (table, 4, [0, 2], [8, 8], none),
        "2 tables, 1 masks and 3 starts for 2 rows": (table, 4, [0, 1, 2], [8, 8], [None]),
        "2 tables, 2 masks and 3 starts for 1 rows": (table, 4, [0, 1, 2], [8], none),
        r"starts are \[0, 2, 1\]": (table, 4, [0, 2, 1], [8, 8], none),
        r"starts are \[1, 2, 2\]": (table, 4, [1, 2, 2], [8, 8], none),
        "row 1 reads 9 keys of 8": (table, 4, [0, 1, 2], [8, 9], none),
        "row 0 reads -1 keys": (table, 4, [0, 1, 2], [-1, 8], none),
        r"mask of row 1 is bool \[1, 7\]; pass bool \[1, 8\]": (table, 4, [0, 1, 2], [8, 8], [None, some(1, 7)]),
        "mask of row 0 is float32": (table, 4, [0, 1, 2], [8, 8], [torch.ones(1, 8), None]),
    }.items():
        with pytest.raises(SettingError, match=told):
            Pages(*arguments)


def test_tensors_that_do_not_fit_are_named(form: str) -> None:
    pages = Pages(torch.tensor([[0, 1], [2, 3]]), 4, [0, 1, 2], [8, 8], [None, None])
    q, pool = torch.zeros(1, 4, 2, 8), torch.zeros(16, 2, 8)
    attend_pages(q, pool, pool, pages)
    for told, arguments in {
        r"queries are \[1, 4, 3, 8\]; pass \[1, heads, 2, d\]": (torch.zeros(1, 4, 3, 8), pool, pool),
        r"queries are \[2, 4, 2, 8\]": (q.repeat(2, 1, 1, 1), pool, pool),
        r"values \[16, 2, 4\]": (q, pool, pool[:, :, :4]),
        "kv_heads that divide 4": (q, torch.zeros(16, 3, 8), torch.zeros(16, 3, 8)),
        r"slots, kv_heads, 8\]": (q, pool[None], pool[None]),
        "names page 3, and 15 slots are 3 pages of 4": (q, pool[:15], pool[:15]),
    }.items():
        with pytest.raises(SettingError, match=told):
            attend_pages(*arguments, pages)
    below = Pages(torch.tensor([[0, -1], [2, 3]]), 4, [0, 1, 2], [8, 8], [None, None])
    with pytest.raises(SettingError, match="page -1 in a table"):
        attend_pages(q, pool, pool, below)
