"""Next token: a unit of one token, known at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampling import Sampler
from .proposing import likeliest
from .protocol import Advanced, Draw, Turn

__all__ = ["NextToken"]


@dataclass(frozen=True)
class NextToken:
    """p(x) = prod_i p(x_i | x_<i): the prediction of a token is read at the token before it; one step, one token.

    The noisy token itself is never shown to the network, so a generation step feeds only the token fixed last: plain
    autoregressive decoding, as a special case of the one loop.
    """

    sampler: Sampler = field(default_factory=Sampler)

    shift = 1
    feeds_draft = False
    conditioned = False
    noise = "uniform"

    def corrupt(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        return clean

    def learns(self, noisy: Tensor, clean: Tensor) -> Tensor:
        return torch.ones_like(clean, dtype=torch.bool)

    def loss(self, prediction: Tensor, clean: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        return F.cross_entropy(prediction.float(), clean, reduction="none")

    def prior(self, draw: Draw, m: int, *shape: int) -> Tensor:
        return torch.full((m, *shape), -1, dtype=torch.long)

    def shown(self, x: Tensor) -> Tensor:
        return x.clamp_min(0)  # what is not known yet is seen by nobody

    def level(self, x: Tensor) -> Tensor:
        return (x < 0).sum(-1) / x.shape[-1]

    def open(self, x: Tensor) -> Tensor:
        return x < 0

    def advance(self, x: Tensor, prediction: Tensor, turn: Turn) -> Advanced:
        uniform = None if self.sampler.greedy else turn.draw("uniform", x.shape[1]).flatten()
        drawn = self.sampler(prediction, uniform)
        log_prob = drawn.confidence.clamp_min(1e-38).log().view_as(x) if turn.details else None
        top = likeliest(self.open(x), drawn, turn.top) if turn.top else None
        return Advanced(drawn.token.view_as(x), log_prob=log_prob, top=top)
