"""No memory: every forward recomputes the whole past. The reference that every cache is compared with."""

from __future__ import annotations

from torch import Tensor

from .protocol import Span

__all__ = ["Recompute"]


class Recompute:
    """Keeps nothing. Committed lengths stay 0, so every forward is given all that it may see."""

    keeps = False

    def __init__(self, rows: int = 1) -> None:
        self.lengths = [0] * rows

    def span(self, row: int, first: int, last: int, horizon: int, begun: bool) -> Span:
        return Span(0, horizon, horizon)

    def open(self, ends: list[int], rows: list[int] | None = None) -> int:
        return max(ends)

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        return k, v

    def commit(self, lengths: list[int]) -> None:
        pass

    def truncate(self, lengths: list[int]) -> None:
        pass

    def keep(self, rows: list[int]) -> None:
        self.lengths = [0] * len(rows)
