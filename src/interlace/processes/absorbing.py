"""Absorbing mask: a token is either itself or [MASK]."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from ..paces import Even, Pace
from ..reveal import Dynamic, Reveal
from ..sampling import Sampler
from .masked import MaskedTokens
from .proposing import likeliest, propose
from .protocol import Advanced, Turn

__all__ = ["AbsorbingMask"]


@dataclass(frozen=True)
class AbsorbingMask(MaskedTokens):
    """q(x_t | x) replaces each token by [MASK] with probability p = (1 - eps) t + eps; loss = CE / p where masked.

    The expected loss over t is the negative evidence lower bound of the text (the weight 1/p is that of the linear
    schedule). In sampling, candidates are drawn for all masked tokens at once and a reveal rule says which of them
    are fixed; a fixed token is never masked again. The level of a unit is the share of its tokens still masked.

    Args:
        mask_id: id of [MASK]. reveal, sampler: which candidates are fixed, and how they are drawn. eps: least p.
        shift: 1 where a token is predicted at the token before it, as the autoregressive weights were trained.
        weighted: False leaves the weight 1/p out: every masked token counts the same. pace: the quota of a step.

    Source: MDLM (arXiv:2406.07524), BD3-LM (arXiv:2503.09573), SDAR (arXiv:2510.06303).

    >>> import torch
    >>> process = AbsorbingMask(mask_id=9)
    >>> process.corrupt(torch.tensor([[1, 2]]), torch.full((1, 2), 0.5), torch.tensor([[0.4, 0.6]])).tolist()
    [[9, 2]]
    """

    reveal: Reveal = Dynamic(0.9)
    sampler: Sampler = field(default_factory=Sampler)
    eps: float = 1e-3
    shift: int = 0
    weighted: bool = True
    pace: Pace = Even()

    def probability(self, level: Tensor) -> Tensor:
        """Chance of a token to be masked at a level."""
        return (1 - self.eps) * level + self.eps

    def corrupt(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        return clean.masked_fill(noise < self.probability(level), self.mask_id)

    def loss(self, prediction: Tensor, clean: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        losses = F.cross_entropy(prediction.float(), clean, reduction="none")
        return losses / self.probability(level) if self.weighted else losses

    def advance(self, x: Tensor, prediction: Tensor, turn: Turn) -> Advanced:
        masked = x == self.mask_id if turn.wanted is None else turn.wanted
        # a mask is never a candidate: a unit would not get cleaner
        prediction = prediction.float()
        prediction.select(-1, self.mask_id).fill_(float("-inf"))
        proposal = propose(masked, prediction, self.sampler, self.pace, turn)
        fixed = self.reveal(proposal)
        log_prob = proposal.confidence.clamp_min(1e-38).log().where(fixed, 0.0) if turn.details else None
        x = proposal.token.where(fixed, x)
        return Advanced(x, log_prob=log_prob, top=likeliest(masked, proposal.drawn, turn.top))
