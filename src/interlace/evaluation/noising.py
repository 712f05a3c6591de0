"""Rows with noise, and what a prediction of what was there costs: how a bound of the likelihood is estimated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..grid import Noise
from ..processes import Process
from ..processes.masked import MaskedTokens

__all__ = ["Asking", "Noised", "bounded", "noised"]


class Asking(NamedTuple):
    """Rows that get noise ``draws`` times.

    scored: what the bound is over. seeds: what is asked for besides, and costs its exact -log p. filling: what stays
    noise. All boolean [rows, n]. size: of a unit. noise, numbers: where in it a row is.
    """

    clean: Tensor
    scored: Tensor
    seeds: Tensor
    filling: Tensor
    size: int
    noise: Noise
    numbers: list[int]
    draws: int


class Noised(NamedTuple):
    """Rows with noise; which tokens are asked for, boolean [rows, n]; what their logits [asked, vocab] cost, in nats.

    The costs of a unit are, on average over draws, a bound of -log p of what is scored in it.
    """

    content: Tensor
    asked: Tensor
    cost: Callable[[Tensor], Tensor]


def bounded(process: Process) -> bool:
    """Whether its noise gives a bound: it masks, or tells the ``divergence`` of a step.

    >>> from interlace.processes import NextToken, UniformTokens
    >>> bounded(UniformTokens()), bounded(NextToken())
    (True, False)
    """
    return hasattr(process, "divergence") or isinstance(process, MaskedTokens)


def noised(process: Process, asking: Asking, draw: int) -> Noised:
    """One draw of the noise of a process that is ``bounded``."""
    return _replaced(process, asking, draw) if hasattr(process, "divergence") else _masked(process, asking, draw)


def _places(asking: Asking, draw: int) -> tuple[range, list[int], list[int]]:
    """Rows, units and steps of the noise of a draw; step 0 is left to ``_spread``."""
    return range(len(asking.numbers)), asking.numbers, [1 + draw] * len(asking.numbers)


def _spread(asking: Asking, draw: int) -> Tensor:
    """A number v in [0, 1) for every unit, float64 [rows, units].

    Over the units b of a row and the draws k of a unit, v = frac(u + b (sqrt(5) - 1) / 2 + k / draws) is spread evenly;
    u is uniform, so every v is.
    """
    rows, units = len(asking.numbers), asking.clean.shape[1] // asking.size
    u = asking.noise.uniform(range(rows), asking.numbers, [0] * rows, ()).double()[:, None]
    along = torch.arange(units, dtype=torch.float64, device=u.device) * ((5**0.5 - 1) / 2)
    return (u + along + draw / asking.draws).frac()


def _masked(process: Any, asking: Asking, draw: int) -> Noised:
    """In a unit of L scored tokens m of them are masked, m = 1 + floor(L v), with the weight L / m."""
    scored = asking.scored.unflatten(1, (-1, asking.size))
    free = scored.sum(-1)
    many = torch.minimum(1 + (free * _spread(asking, draw)).long(), free)
    score = asking.noise.uniform(*_places(asking, draw), tuple(scored.shape[1:]))
    rank = score.masked_fill(~scored, 2.0).argsort(-1).argsort(-1)
    chosen = (scored & (rank < many[..., None])).flatten(1)
    asked = chosen | asking.seeds
    weight = (free / many.clamp_min(1)).float()[..., None].expand_as(scored).flatten(1).masked_fill(asking.seeds, 1.0)

    def cost(prediction: Tensor) -> Tensor:
        return F.cross_entropy(prediction, asking.clean[asked], reduction="none") * weight[asked]

    return Noised(asking.clean.masked_fill(chosen | asking.filling, process.mask_id), asked, cost)


def _replaced(process: Any, asking: Asking, draw: int) -> Noised:
    """Every scored token of a unit is at level t = k / L, k = 1 + floor(L v); it stands for L steps."""
    steps, shape = asking.size, tuple(asking.clean.shape[1:])
    t = ((1 + (steps * _spread(asking, draw)).long()) / steps).float().repeat_interleave(steps, 1)
    level = t.where(asking.scored, 0.0).masked_fill(asking.filling, 1.0)
    places = _places(asking, draw)
    number = asking.noise.uniform(*places, shape)
    if process.noise == "token":
        number = number.double() + asking.noise.token(*places, shape)
    noisy = process.corrupt(asking.clean, level, number)

    def cost(prediction: Tensor) -> Tensor:
        shown, clean, at = (x[asking.scored] for x in (noisy, asking.clean, t))
        return process.divergence(prediction, clean, shown, at, at - 1 / steps) * steps

    return Noised(noisy, asking.scored, cost)
