"""Documents read suffix first, so that a model that only sees earlier units can fill a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .batch import Batch, Rows

__all__ = ["SuffixFirst", "suffix_first_order"]


def suffix_first_order(before: int, gap: int, after: int) -> Tensor:
    """The order suffix, prefix, gap: for every place of reading, the place in the text, int64 [before + gap + after].

    >>> suffix_first_order(2, 3, 1).tolist()
    [5, 0, 1, 2, 3, 4]
    """
    return torch.cat((torch.arange(before + gap, before + gap + after), torch.arange(before + gap)))


@dataclass(frozen=True)
class SuffixFirst:
    """A ``share`` of the documents of ``rows`` is read suffix, prefix, gap; every token keeps its true position.

    The gap of at most ``longest`` tokens lies anywhere in the document. Units are cut along the order of reading, so
    block-causal attention lets the gap see both sides, and nothing else changes: no sentinel tokens, no new weights.
    Source of the idea: fill in the middle (arXiv:2207.14255), here with true positions in place of sentinels.
    """

    rows: Rows
    share: float = 0.25
    longest: int = 96
    seed: int = 0

    def batch(self, numbers: Sequence[int]) -> Batch:
        batch = self.rows.batch(numbers)
        content, place = batch.content.clone(), batch.index.clone()
        for r, number in enumerate(batch.row):
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) * 2 + 1)
            document = batch.document[r]
            for d in range(int(document.max()) + 1):
                where = (document == d).nonzero().flatten()
                n = len(where)
                coin, size, at = torch.rand(3, generator=generator).tolist()
                if coin >= self.share or n < 8:
                    continue
                gap = 1 + int(size * min(self.longest, n // 2))
                before = int(at * (n - gap))
                order = suffix_first_order(before, gap, n - gap - before)
                content[r, where] = batch.content[r, where][order]
                place[r, where] = batch.index[r, where][order]
        return replace(batch, content=content, place=place)
