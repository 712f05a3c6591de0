"""A number of tokens of every unit, and rather those at its end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingError

__all__ = ["Counted"]


@dataclass(frozen=True)
class Counted:
    """k = round(t L) of the L tokens of a unit, drawn without replacement with weights w_i = exp(tilt (1 - t) i).

    i = 1..L is the place in the unit, so with ``tilt`` > 0 later tokens are masked more often, most of all when few
    are: what decoding from left to right meets. By Gumbel-top-k: the k largest of log w_i + Gumbel_i. The level becomes
    k / L, so that a loss weighted by 1 / level counts every masked token L / k times (the paper weights by 1 / t, which
    has no bound where t is small and k is not 0). A unit with k = 0 teaches nothing.

    Args:
        tilt: 0 is uniform, negative prefers the begin of a unit. ``half_life`` gives that of the paper.

    Source: Efficient-DLM (arXiv:2512.14067). Raises ``SettingError`` for a tilt that is no number.

    >>> import torch
    >>> level, uniform, unit = torch.full((1, 4), 0.5), torch.rand(1, 4), torch.zeros(1, 4, dtype=torch.long)
    >>> level, uniform = Counted()(level, uniform, unit)
    >>> int((uniform < level).sum())
    2
    """

    tilt: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.tilt):
            raise SettingError(f"tilt is {self.tilt}; pass a number, 0 for uniform masks")

    @classmethod
    def half_life(cls, ratio: float, size: int) -> Counted:
        """Weights that double over ``ratio * size`` tokens at t = 0: tilt = ln 2 / (ratio size); ratio inf: uniform.

        >>> round(Counted.half_life(0.1, 16).tilt, 4)
        0.4332
        """
        if not ratio > 0 or size < 1:
            raise SettingError(f"the half-life is {ratio} of a block of {size}; pass a positive share, inf for uniform")
        return cls(math.log(2) / (ratio * size))

    def __call__(self, level: Tensor, uniform: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        rows, n = unit.shape
        index = torch.arange(n, device=unit.device).expand(rows, n)
        starts = torch.ones_like(unit, dtype=torch.bool)
        starts[:, 1:] = unit[:, 1:] != unit[:, :-1]
        run = starts.cumsum(1) - 1  # units by number in the row, those of no use too
        begin = index.where(starts, 0).cummax(1).values
        length = torch.zeros_like(index).scatter_add(1, run, torch.ones_like(index)).gather(1, run)
        # floats of 2^-24 steps: 0 would give an infinite key
        gumbel = -(-uniform.double().clamp_min(2.0**-25).log()).log()
        key = self.tilt * (1 - level.double()) * (index - begin + 1) + gumbel
        falling = key.argsort(dim=1, descending=True, stable=True)
        order = falling.gather(1, run.gather(1, falling).argsort(dim=1, stable=True))
        rank = torch.empty_like(index).scatter(1, order, index) - begin
        count = (level * length).round()
        return count / length, (rank + 0.5) / length
