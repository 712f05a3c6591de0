"""Uncertainty of what is counted and of what is averaged, in one line each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["Spent", "around", "rate_interval", "ratio"]

_Z = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations


def rate_interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a rate of ``hits`` in ``count``; honest for small counts and for 0 and 1.

    >>> [round(x, 3) for x in rate_interval(5, 10)]
    [0.237, 0.763]
    >>> rate_interval(0, 7)[0], rate_interval(7, 7)[1]
    (0.0, 1.0)
    """
    if count == 0:
        return 0.0, 1.0
    rate, z2 = hits / count, _Z * _Z
    middle = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z * math.sqrt(rate * (1 - rate) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, middle - half) if hits else 0.0, min(1.0, middle + half) if hits < count else 1.0


def ratio(totals: Sequence[float], sizes: Sequence[float]) -> tuple[float, float]:
    """sum(totals) / sum(sizes) over independent rows, and its standard error (that of a ratio estimator).

    >>> ratio([1.0, 3.0], [1, 1])
    (2.0, 1.0)
    """
    size, mean = sum(sizes), sum(totals) / sum(sizes)
    spread = sum((t - mean * s) ** 2 for t, s in zip(totals, sizes, strict=True))
    count = len(totals)
    return mean, (math.sqrt(spread * count / (count - 1)) / size if count > 1 else math.inf)


def around(mean: float, error: float) -> tuple[float, float]:
    """The 95% interval of a mean with that standard error."""
    return mean - _Z * error, mean + _Z * error


class Spent:
    """What answers together cost, for a class whose ``records`` count tokens and forwards of one answer each."""

    records: tuple[Any, ...]

    @property
    def tokens(self) -> int:
        return sum(r.tokens for r in self.records)

    @property
    def forwards(self) -> int:
        return sum(r.forwards for r in self.records)

    @property
    def tokens_per_forward(self) -> float:
        return self.tokens / max(1, self.forwards)
