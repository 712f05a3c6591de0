"""A walk that looks ahead: drafts are shown in place of what is open, and masks behind the row draft anew."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..attention.patterns import Tags, dense
from ..grid import Move
from ..lookahead import Lookahead
from ..memory import Span
from ..processes import ConstrainedDrafts
from .walk import Feed, Row, Walk

__all__ = ["WalkAhead"]


class WalkAhead(Walk):
    """A forward is given the row up to its last draft, and the lookahead's masks; it keeps the drafts that are right.

    The process carries the drafts from step to step.
    """

    fills = False
    constrained = ConstrainedDrafts

    def __init__(self, lookahead: Lookahead, *parts: Any, **options: Any) -> None:
        self.lookahead, self.extra = lookahead, lookahead.count
        super().__init__(*parts, **options)

    def _committable(self, r: int, move: Move | None) -> int:
        return self.memory.lengths[r] // self.layout.size  # what is right is known after the step only

    def _keep(self, chosen: list[int], fed: list[int]) -> None:
        # a draft that turned out right was fed as what it is
        self._commit(chosen, [self.alive[r].first for r in chosen])

    def _nothing(self, content: Tensor, carry: Tensor) -> Tensor:
        return content.clone()  # no drafts: what is open is masked

    def _turns(self, row: Row, first: int, count: int) -> list[int]:
        return [0] * count  # a draft and its verification draw the same

    def _levels(self, rows: Sequence[Row], moves: Sequence[Move] = ()) -> Tensor:
        return torch.zeros_like(super()._levels(rows))  # a draft is shown as what it may turn out to be

    def _span(self, r: int, move: Move) -> Span:
        row = self.alive[r]
        end = min(min(move.units) + self.lookahead.size - 1, len(row.levels))
        return Span(self.memory.lengths[r], end, end)

    def _read(self, hidden: Tensor, read: Any, wanted: Tensor, counts: list[int], width: int) -> Tensor:
        return torch.cat((hidden[read][:, : self.lookahead.size], hidden[:, width:]), 1)

    def _owners(
        self, hidden: Tensor, live: list[tuple[int, int, int]], chosen: list[int], counts: list[int]
    ) -> tuple[list[int], list[int]]:
        return chosen, [hidden.shape[1]] * len(chosen)

    def ahead(self, chosen: list[int], spans: list[Span], label: Tensor | None) -> Feed:
        feed, rows = self.feed(chosen, spans, label, beside=self.extra), [self.alive[r] for r in chosen]
        masks = self.lookahead.tags(torch.tensor([row.first for row in rows], device=self.device))
        behind = torch.tensor([span.end for span in spans], device=self.device)[:, None]
        behind = behind + torch.arange(self.extra, device=self.device)
        index = torch.tensor([span.start for span in spans], device=self.device)[:, None]
        index = (index + torch.arange(feed.content.shape[1], device=self.device)).clamp_max(self.width - 1)
        if self.carry is not None:
            owner = torch.tensor([row.number for row in rows], device=self.device)[:, None]
            feed.content = self.carry[owner, index].where(self.process.open(feed.content), feed.content)
        mask_id: int = self.process.mask_id  # type: ignore[attr-defined]
        feed.content = torch.cat((feed.content, torch.full_like(behind, mask_id)), 1)
        # behind the last position are only cells that no row has
        places = masks.index.clamp_max(self.config.max_positions - 1)
        feed.positions = torch.cat((feed.positions, places), 1)
        feed.slots = torch.cat((feed.slots, behind), 1)
        if feed.valid is not None:
            feed.valid = torch.cat((feed.valid, torch.ones_like(behind, dtype=torch.bool)), 1)
        feed.reads = [reads + self.extra for reads in feed.reads]
        feed.free = [False] * len(rows)
        feed.seen = partial(self._beside, rows, index, masks, behind)
        return feed

    def _beside(
        self, rows: list[Row], index: Tensor, masks: Tags, behind: Tensor, which: list[int], reads: int
    ) -> Tensor:
        """Who sees whom, the masks included."""
        masks, levels = Tags(*(tag[which] for tag in masks)), self._levels([rows[r] for r in which])
        every = self._tags(torch.arange(reads, device=self.device).expand(len(which), -1), levels)
        keys = Tags(*(key.scatter(1, behind[which], tag) for key, tag in zip(every, masks, strict=True)))
        row = self._tags(index[which], levels)
        queries = Tags(*(torch.cat(pair, 1) for pair in zip(row, masks, strict=True)))
        return dense(self.pattern, queries, keys)
