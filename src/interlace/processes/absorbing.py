"""Absorbing mask: a token is either itself or [MASK]."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..reveal import Dynamic, Reveal
from ..sampling import Sampler
from .masked import MaskedTokens
from .protocol import Advanced, Draw

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
        weighted: False leaves the weight 1/p out: every masked token counts the same.

    Source: MDLM (arXiv:2406.07524), BD3-LM (arXiv:2503.09573), SDAR (arXiv:2510.06303).

    >>> process = AbsorbingMask(mask_id=9)
    >>> process.corrupt(torch.tensor([[1, 2]]), torch.full((1, 2), 0.5), torch.tensor([[0.4, 0.6]])).tolist()
    [[9, 2]]
    """

    reveal: Reveal = Dynamic(0.9)
    sampler: Sampler = field(default_factory=Sampler)
    eps: float = 1e-3
    shift: int = 0
    weighted: bool = True

    def probability(self, level: Tensor) -> Tensor:
        """Chance of a token to be masked at a level."""
        return (1 - self.eps) * level + self.eps

    def corrupt(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        return clean.masked_fill(noise < self.probability(level), self.mask_id)

    def loss(self, prediction: Tensor, clean: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        losses = F.cross_entropy(prediction.float(), clean, reduction="none")
        return losses / self.probability(level) if self.weighted else losses

    def advance(
        self,
        x: Tensor,
        prediction: Tensor,
        step: Tensor,
        of: int,
        draw: Draw,
        carry: Tensor | None = None,
        details: bool = True,
        wanted: Tensor | None = None,
    ) -> Advanced:
        size = x.shape[1]
        masked = x == self.mask_id if wanted is None else wanted
        # a mask is never a candidate: a unit would not get cleaner
        prediction = prediction.float()
        prediction[:, self.mask_id] = float("-inf")
        uniform = None if self.sampler.greedy else draw("uniform", size)[masked]
        drawn = self.sampler(prediction, uniform)
        confidence, entropy = x.new_zeros((2, *x.shape), dtype=torch.float32)
        confidence[masked], entropy[masked] = drawn.confidence, drawn.entropy
        token = x.masked_scatter(masked, drawn.token)
        # size tokens over `of` steps, the earlier steps taking the extra one (grid.quotas)
        quota = size // of + (step < size % of).long()
        fixed = self.reveal(masked, confidence, entropy, quota)
        log_prob = confidence.clamp_min(1e-38).log().where(fixed, 0.0) if details else None
        x = token.where(fixed, x)
        return Advanced(x, self.level(x), log_prob)
