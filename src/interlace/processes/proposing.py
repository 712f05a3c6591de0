"""From a prediction to what a reveal rule is shown."""

from __future__ import annotations

from torch import Tensor

from ..paces import Pace
from ..reveal import Proposal
from ..sampling import Candidates, Sampler
from .protocol import Turn

__all__ = ["likeliest", "propose", "within"]


def propose(open: Tensor, prediction: Tensor, sampler: Sampler, pace: Pace, turn: Turn) -> Proposal:
    """A candidate for every open token, and the quota of the step: open [m, size], prediction [number open, vocab]."""
    size = open.shape[1]
    drawn = sampler(prediction, None if sampler.greedy else within(open, turn.draw("uniform", size), len(prediction)))
    return Proposal(open, drawn, pace(open.sum(1), size, turn.step, turn.of), turn.step, turn.of, turn.draw)


def within(open: Tensor, values: Tensor, count: int) -> Tensor:
    """The values [m, size] of the ``count`` open tokens, [count]."""
    return values.flatten() if count == open.numel() else values[open]


def likeliest(open: Tensor, drawn: Candidates, count: int) -> tuple[Tensor, Tensor] | None:
    """The ``count`` likeliest tokens of every open token and their log-probabilities, [m, size, count]; 0 elsewhere."""
    if not count:
        return None
    found = []
    for values in drawn.likeliest(count):
        nothing = values.new_zeros((*open.shape, values.shape[-1]))
        found.append(nothing.masked_scatter(open[..., None], values))
    return found[0], found[1]
