"""One forward for the rows of several walks: their tokens packed behind each other, their keys in pages of one pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..arrangements import taken
from ..attention.paged import Pages
from ..generation import Feed
from ..memory import PagedKV, Pool

__all__ = ["forward", "heads"]


def forward(network: Any, pool: Pool, feeds: Sequence[tuple[PagedKV, Feed, Tensor]]) -> list[Tensor]:
    """Hidden states [rows, n, hidden] of every feed, given its memory and its content as the network reads it.

    What is no token of a row is left out of the forward, and is zero in the answer.
    """
    packed: list[tuple[Tensor, Tensor, Tensor]] = []
    tables: list[Tensor] = []
    counts: list[int] = []
    reads: list[int] = []
    masks: list[Tensor | None] = []
    for memory, feed, shown in feeds:
        memory.open(feed.reads, feed.rows)
        table, slots = memory.physical(feed.rows, feed.slots)
        valid = feed.valid
        pieces = shown, feed.positions, slots
        packed.append(tuple(one.flatten(0, 1) if valid is None else one[valid] for one in pieces))  # type: ignore[arg-type]
        tables.append(table)
        counts += [feed.slots.shape[1]] * len(feed.rows) if valid is None else valid.sum(1).tolist()
        reads += feed.reads
        masks += _masks(feed)
    most = max(table.shape[1] for table in tables)
    every = torch.cat([torch.nn.functional.pad(table, (0, most - table.shape[1])) for table in tables])
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    content, positions, slots = (torch.cat(pieces)[None] for pieces in zip(*packed, strict=True))
    hidden = network(content, positions, Pages(every, pool.size, starts, reads, masks), pool, slots)[0]
    answers, begin = [], 0
    for _, feed, _ in feeds:
        shape = *feed.slots.shape, hidden.shape[-1]
        if feed.valid is None:
            end = begin + shape[0] * shape[1]
            answer = hidden[begin:end].view(shape)
        else:
            end = begin + int(feed.valid.sum())
            answer = hidden.new_zeros(shape)
            answer[feed.valid] = hidden[begin:end]
        answers.append(answer if feed.order is None else taken(answer, feed.order.argsort(1)))
        begin = end
    return answers


def _masks(feed: Feed) -> list[Tensor | None]:
    """Of every row who sees which of the keys that it reads; None where everybody sees all."""
    masks: list[Tensor | None] = [None] * len(feed.rows)
    which = [r for r, free in enumerate(feed.free) if not free]
    if which:
        seen = feed.seen(which, max(feed.reads[r] for r in which))
        for place, r in enumerate(which):
            mine = seen[min(place, len(seen) - 1), :, : feed.reads[r]]
            masks[r] = mine if feed.valid is None else mine[feed.valid[r]]
    return masks


def heads(network: Any, hidden: Sequence[Tensor]) -> list[Tensor]:
    """Predictions of several walks, by one product: each [..., hidden] -> [..., vocabulary]."""
    flat = [one.reshape(-1, one.shape[-1]) for one in hidden]
    every = network.head(torch.cat(flat)) if len(flat) > 1 else network.head(flat[0])
    found = every.split([len(one) for one in flat])
    return [one.view(*shape.shape[:-1], one.shape[-1]) for one, shape in zip(found, hidden, strict=True)]
