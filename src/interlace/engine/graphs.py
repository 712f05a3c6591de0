"""Forwards of few tokens recorded once for every shape and played again (CUDA graphs).

A step of a few tokens keeps a GPU waiting for the launches of many small kernels. A recorded forward is one launch, but
always of the same tensors. So rows are padded to a shape of which there are few (rows, queries of the block, pages:
powers of two), written into tensors that stay, and the padding's keys go to a slot that nobody reads.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..attention.paged import EvenPages, Pages
from ..memory import Pool

__all__ = ["Graphs", "Recorder", "Shape", "on_cuda"]

log = logging.getLogger(__name__)

Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Given a body, what plays it again, and the tensor in which its result lies then."""

QUERIES, TOKENS, KEYS = 128, 2048, 1 << 24
"""Largest forwards that are recorded: queries of a row, tokens with padding, and queries times keys. Beyond these a
GPU has enough to do."""

KEPT = 64
"""Recordings kept; the least recently played goes first."""

TOLERANCE = 0.05
"""A recording whose first result is further from the plain one, relative to its norm, is wrong, not rounded."""


class Shape(NamedTuple):
    """Rows, queries of each and pages of each, all rounded up to powers of two."""

    rows: int
    queries: int
    pages: int


@dataclass
class _Recording:
    """The tensors that are read, what plays the forward, and where its result lies."""

    content: Tensor
    positions: Tensor
    slots: Tensor
    tables: Tensor
    ends: Tensor
    seen: Tensor
    play: Callable[[], None]
    hidden: Tensor


class Graphs:
    """A network for packed rows whose small forwards are recorded the second time that their shape comes.

    Called as the network is, with ``Pages``; equal up to the rounding of products of other shapes. The first playing of
    a recording is compared with the plain forward: where it cannot be recorded or differs, nothing is recorded any more
    and a warning says why.

    Args:
        network: as ``Transformer``.
        record: how a body is recorded.

    >>> network = Graphs(network, on_cuda(device))                                      # doctest: +SKIP
    """

    def __init__(self, network: Any, record: Recorder) -> None:
        self.network, self.record = network, record
        self.plays = 0
        self._kept: OrderedDict[Shape, _Recording] = OrderedDict()
        self._met: Counter[Shape] = Counter()
        self._failed = False

    def __call__(self, content: Tensor, positions: Tensor, pages: Pages, pool: Pool, slots: Tensor) -> Tensor:
        shape = None if self._failed else _shape(pages)
        if shape is None:
            return self.network(content, positions, pages, pool, slots)
        self._met[shape] += 1
        kept = self._kept.get(shape)
        if kept is not None:
            self._kept.move_to_end(shape)
            return self._played(kept, content, positions, pages, pool, slots)
        plain = self.network(content, positions, pages, pool, slots)
        if self._met[shape] > 1:
            try:
                kept = self._recording(shape, content, positions, pages, pool, slots)
                again = self._played(kept, content, positions, pages, pool, slots)
                off = float((again - plain).norm() / plain.norm().clamp_min(1e-9))
            except RuntimeError as error:  # what PyTorch raises for an operation that cannot be recorded
                self._stop(f"they cannot be recorded ({str(error).splitlines()[0]})")
                return plain
            if not plain.isfinite().all():
                return plain  # nothing to compare with; the next one of this shape is recorded
            if not off <= TOLERANCE:
                self._stop(f"a recorded one of {tuple(shape)} is off by {off:.1%}")
                return plain
            self._kept[shape] = kept
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            log.info("recorded a forward of %d rows, %d queries and %d pages each", *shape)
        return plain

    def head(self, hidden: Tensor) -> Tensor:
        return self.network.head(hidden)

    def _stop(self, why: str) -> None:
        log.warning("forwards run without CUDA graphs: %s; --no-graphs says so from the start", why)
        self._failed = True
        self._kept.clear()

    def _recording(
        self, shape: Shape, content: Tensor, positions: Tensor, pages: Pages, pool: Pool, slots: Tensor
    ) -> _Recording:
        rows, queries, width = shape
        tokens = rows * queries
        content, positions, slots = (one.new_zeros((1, tokens, *one.shape[2:])) for one in (content, positions, slots))
        tables = pages.tables.new_zeros((rows, width))
        ends = tables.new_zeros(rows)
        seen = torch.ones((rows, queries, width * pages.size), dtype=torch.bool, device=tables.device)
        slots.fill_(pool.spare)

        def body() -> Tensor:
            even = EvenPages(tables, pages.size, queries, ends, seen)
            return self.network(content, positions, even, pool, slots)

        play, hidden = self.record(body)
        return _Recording(content, positions, slots, tables, ends, seen, play, hidden)

    def _played(
        self, kept: _Recording, content: Tensor, positions: Tensor, pages: Pages, pool: Pool, slots: Tensor
    ) -> Tensor:
        rows, queries, _ = kept.seen.shape
        device = content.device
        counts = [end - start for start, end in zip(pages.starts, pages.starts[1:], strict=False)]
        places = [r * queries + i for r, count in enumerate(counts) for i in range(count)]
        where = torch.tensor(places).to(device, non_blocking=True)
        ends = torch.tensor(pages.reads + [0] * (rows - len(pages.reads)))
        for mine, given, rest in (
            (kept.content, content, 0), (kept.positions, positions, 0), (kept.slots, slots, pool.spare)
        ):  # fmt: skip
            mine.fill_(rest).index_copy_(1, where, given)
        most = min(pages.tables.shape[1], kept.tables.shape[1])
        kept.tables[: len(pages.reads), :most] = pages.tables[:, :most]
        kept.ends.copy_(ends, non_blocking=True)
        kept.seen.fill_(True)
        for r, mask in enumerate(pages.masks):
            if mask is not None:
                kept.seen[r, : mask.shape[0], : mask.shape[1]] = mask
        kept.play()
        self.plays += 1
        return kept.hidden[:, where]  # a copy: the next playing writes over it


def _shape(pages: Pages) -> Shape | None:
    """The shape that these rows are padded to; None for a forward that is not worth recording."""
    most = max(end - start for start, end in zip(pages.starts, pages.starts[1:], strict=False))
    width = max(1, -(-max(pages.reads) // pages.size))
    shape = Shape(*(1 << (size - 1).bit_length() for size in (len(pages.reads), max(1, most), width)))
    tokens = shape.rows * shape.queries
    large = shape.queries > QUERIES or tokens > TOKENS or tokens * shape.pages * pages.size > KEYS
    # rows of uneven lengths would be mostly padding
    return None if large or tokens > 4 * max(1, pages.starts[-1]) else shape


def on_cuda(device: torch.device) -> Recorder:
    """Records CUDA graphs, in one pool of memory: results are copied out before another is played. All tensors of the
    bodies must lie on this device, and stay."""
    pool = torch.cuda.graph_pool_handle()

    def record(body: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        with torch.cuda.device(device):
            apart = torch.cuda.Stream()
            apart.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(apart):
                for _ in range(2):  # what is made at a first call (tables, handles, workspaces) is no part of the graph
                    body()
            torch.cuda.current_stream().wait_stream(apart)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                hidden = body()
        return graph.replay, hidden

    return record
