"""Recorded forwards give what plain ones give, whatever was played before; what cannot be recorded runs plainly.

A recording is made here of a function that is called again: it reads and writes the same tensors as a CUDA graph.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.paged import EvenPages, Pages, attend_pages
from interlace.engine import Engine, Request
from interlace.engine.graphs import KEPT, Graphs, Shape, on_cuda
from interlace.errors import SettingError
from interlace.memory import Pool

from .test_engine import drive, generated, some, text
from .tiny import SYSTEMS, model

Replay = tuple[Callable[[], None], Tensor]
IDS = [f"{name}-{'-'.join(map(str, changes.values()))}" for name, changes in SYSTEMS]


def again(body: Callable[[], Tensor]) -> Replay:
    hidden = body()

    def play() -> None:
        hidden.copy_(body())

    return play, hidden


def packed(net: Any, rows: list[tuple[int, int]], seed: int, masked: bool = False) -> tuple[Any, ...]:
    """Arguments of a packed forward of rows of (queries, keys); the keys before the queries are random."""
    draw = torch.Generator().manual_seed(seed)
    size, config = 4, net.config
    counts = [-(-keys // size) for _, keys in rows]
    pool = Pool(config.num_layers, config.num_kv_heads, config.head_dim, 24, size)
    pool.storage.normal_(generator=draw)
    tables = torch.zeros(len(rows), max(counts), dtype=torch.int64)
    order = torch.randperm(pool.pages, generator=draw)
    masks: list[Tensor | None] = []
    places, positions, starts = [], [], [0]
    for r, (queries, keys) in enumerate(rows):
        tables[r, : counts[r]], order = order[: counts[r]], order[counts[r] :]
        logical = torch.arange(keys - queries, keys)
        places.append(tables[r, logical // size] * size + logical % size)
        positions.append(logical)
        starts.append(starts[-1] + queries)
        seen = torch.rand(queries, keys, generator=draw) < 0.6
        masks.append(seen if masked and r % 2 == 0 else None)
    content = torch.randint(config.vocab_size, (1, starts[-1]), generator=draw)
    pages = Pages(tables, size, starts, [keys for _, keys in rows], masks)
    return content, torch.cat(positions)[None], pages, pool, torch.cat(places)[None]


@pytest.fixture(scope="module")
def net() -> Any:
    return model("sdar", block_size=4).network


@torch.inference_mode()
def test_a_recorded_forward_is_the_plain_one_whatever_was_played_before(net: Any) -> None:
    graphs, pool = Graphs(net, again), None
    # all of one shape: 4 rows, 4 queries, 4 pages
    mixes = [[(4, 16), (3, 9), (4, 13)], [(1, 13), (4, 4), (4, 16), (2, 2)], [(4, 5), (4, 13), (4, 16)]]
    for seed in range(6):
        for number, rows in enumerate(mixes):
            content, positions, pages, new, slots = packed(net, rows, 10 * seed + number, masked=number == seed % 3)
            pool = pool or new  # one, as in an engine: a recording knows where it lies
            pool.storage.copy_(new.storage)
            found = graphs(content, positions, pages, pool, slots)
            torch.testing.assert_close(found, net(content, positions, pages, pool, slots), atol=2e-5, rtol=1e-4)
    assert list(graphs._kept) == [Shape(4, 4, 4)] and graphs.plays == 6 * len(mixes) - 1


@torch.inference_mode()
def test_padding_writes_nowhere_that_is_read(net: Any) -> None:
    graphs = Graphs(net, again)
    content, positions, pages, pool, slots = packed(net, [(3, 9), (2, 5), (3, 3)], 0)
    for _ in range(2):
        graphs(content, positions, pages, pool, slots)
    before = pool.storage.clone()
    graphs(content, positions, pages, pool, slots)
    changed = (pool.storage != before).flatten(3).any(-1).any(0).any(0).nonzero().flatten().tolist()
    assert graphs.plays == 2 and set(changed) <= {*slots[0].tolist(), pool.spare}
    assert pool.spare == pool.pages * pool.size and pool.storage.shape[2] == pool.spare + 1


def test_even_pages_are_pages() -> None:
    draw = torch.Generator().manual_seed(1)
    tables = torch.tensor([[3, 1], [0, 2], [4, 0], [0, 0]])
    ends, seen = torch.tensor([7, 5, 4, 0]), torch.rand(4, 3, 8, generator=draw) < 0.6
    seen[0, 1] = False
    k, v = torch.randn(2, 20, 2, 8, generator=draw)
    q = torch.randn(1, 4, 12, 8, generator=draw)
    rows = [q[:, :, 3 * r : 3 * r + 3] for r in range(3)]
    masks: list[Tensor | None] = [seen[r, :, : int(ends[r])] for r in range(3)]
    plain = attend_pages(torch.cat(rows, 2), k, v, Pages(tables[:3], 4, [0, 3, 6, 9], ends[:3].tolist(), masks))
    even = attend_pages(q, k, v, EvenPages(tables, 4, 3, ends, seen))
    torch.testing.assert_close(even[:, :, :9], plain, atol=1e-6, rtol=1e-5)
    assert not even[:, :, 9:].any() and not even[:, :, 1].any() and even[:, :, 0].all()
    # what lies in slots that are not read may be anything
    k[12 + 3] = v[12 + 3] = k[4 + 3] = v[4 + 3] = torch.nan
    assert torch.equal(attend_pages(q, k, v, EvenPages(tables, 4, 3, ends, seen & (torch.arange(8) != 3)))[0, 0, 0],
                       attend_pages(q, k.nan_to_num(0), v.nan_to_num(0),
                                    EvenPages(tables, 4, 3, ends, seen & (torch.arange(8) != 3)))[0, 0, 0])  # fmt: skip
    with pytest.raises(SettingError, match=r"pass \[4\], and boolean \[4, 3, 8\]"):
        EvenPages(tables, 4, 3, ends, seen[:3])


@pytest.mark.parametrize(
    ("system", "changes"),
    [pytest.param(*one, id=IDS[i], marks=[pytest.mark.slow] * (i % 3 > 0)) for i, one in enumerate(SYSTEMS)],
)
def test_an_engine_with_recordings_gives_what_generate_gives(system: str, changes: dict[str, Any]) -> None:
    made = model(system, **changes)
    engine = Engine(made, slots=1024, page=4, rows=6)
    engine.network = graphs = Graphs(made.network, again)
    rng = random.Random(5)
    requests = some(made, 8, rng)
    found = drive(engine, requests, lambda: rng.random() < 0.3)
    for number, request in enumerate(requests):
        tokens, forwards, log_probs = text(found[number])
        same = generated(made, request)
        assert (tokens, forwards) == same[:2]
        assert log_probs == pytest.approx(same[2], abs=1e-3)
    assert graphs.plays > 3


@torch.inference_mode()
def test_large_and_uneven_forwards_are_not_recorded(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlace.engine.graphs.QUERIES", 16)
    graphs = Graphs(net, again)
    for rows in ([(17, 17)], [(16, 40), *[(1, 4)] * 8]):
        for _ in range(3):
            graphs(*packed(net, rows, 0))
    assert graphs.plays == 0 and not graphs._kept
    for _ in range(3):
        graphs(*packed(net, [(16, 40)], 0))
    assert graphs.plays == 2


@torch.inference_mode()
def test_recordings_are_bounded(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlace.engine.graphs.KEPT", 2)
    graphs = Graphs(net, again)
    for rows in ([(1, 1)], [(2, 2)], [(4, 4)]):
        for _ in range(2):
            graphs(*packed(net, rows, 0))
    assert list(graphs._kept) == [Shape(1, 2, 1), Shape(1, 4, 1)] and KEPT > 2


def wrong(body: Callable[[], Tensor]) -> Replay:
    hidden = body()

    def play() -> None:
        hidden.mul_(-1)

    return play, hidden


def refused(body: Callable[[], Tensor]) -> Replay:
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(("record", "why"), [(wrong, "is off by"), (refused, "cannot be recorded (operation")])
@torch.inference_mode()
def test_what_cannot_be_recorded_runs_plainly(
    net: Any, record: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = Graphs(net, record)
    given = packed(net, [(4, 16), (3, 9)], 0)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            torch.testing.assert_close(graphs(*given), net(*given))
    assert [why in message for message in caplog.messages] == [True]


@torch.inference_mode()
def test_a_model_without_numbers_says_nothing_about_recordings(net: Any) -> None:
    graphs = Graphs(net, again)
    content, positions, pages, pool, slots = packed(net, [(4, 16), (3, 9)], 0)
    pool.storage[:, 1, pages.tables[0, 0] * 4] = torch.nan
    for _ in range(3):
        found = graphs(content, positions, pages, pool, slots)
        assert found[0, :4].isnan().any() and found[0, 4:].isfinite().all()
    assert not graphs._kept and not graphs._failed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_graphs() -> None:
    made = model("sdar", block_size=4)
    made.network.to("cuda")
    engine = Engine(made, slots=1024, page=4, rows=6)
    assert isinstance(engine.network, Graphs)
    found = drive(engine, [Request((5, 6, 7), 16, seed=n) for n in range(6)])
    plain = drive(Engine(made, slots=1024, page=4, rows=6, graphs=False), [Request((5, 6, 7), 16)])
    assert engine.network.plays > 3 and all(text(events)[0] == text(plain[0])[0] for events in found.values())
    assert on_cuda(torch.device("cuda"))
