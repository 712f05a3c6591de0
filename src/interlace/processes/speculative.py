"""Draft in parallel, verify autoregressively, both in one forward."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SettingError
from ..sampling import Sampler
from .masked import MaskedTokens
from .proposing import likeliest
from .protocol import Advanced, Turn

__all__ = ["Speculative"]


@dataclass(frozen=True)
class Speculative(MaskedTokens):
    """Tokens are those of p(x_i | x_<i), found several at a time: drafts are kept as long as they are what that says.

    A forward over the newest token and K - 1 drafts says what follows each of them (a_1 .. a_K); one over a branch of
    masks for every r says what follows if r tokens are right (m_r1 .. m_rK). v_r is drawn from ``trust`` a_r +
    (1 - ``trust``) m_r1. With A - 1 the number of drafts equal to v_1, v_2, .., the tokens v_1 .. v_A are final, and
    m_A2 .. m_AK are the next drafts.

    A draft and its verification take the same uniform number. So at any temperature the tokens are those, one by one,
    that next-token prediction draws with the same seed (``trust`` 1), and drafts are accepted as often as the two
    distributions put that number on the same token. In place of the rejection rule of speculative decoding
    (arXiv:2211.17192) this needs no stored distributions.

    Args:
        mask_id: id of [MASK]. size: K. sampler: how tokens are drawn. trust: 1 the autoregressive half, 0 the other.

    Source: TiDAR (arXiv:2511.08923). Raises ``SettingError`` for a trust outside of 0 to 1.
    """

    size: int
    sampler: Sampler = field(default_factory=Sampler)
    trust: float = 1.0

    shift = 1

    def __post_init__(self) -> None:
        if not 0 <= self.trust <= 1:
            raise SettingError(f"trust is {self.trust}; pass 1 (autoregression) to 0 (diffusion)")

    def corrupt(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        return clean.masked_fill(noise < level, self.mask_id)

    def loss(self, prediction: Tensor, clean: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        return F.cross_entropy(prediction.float(), clean, reduction="none")

    def advance(self, x: Tensor, prediction: Tensor, turn: Turn) -> Advanced:
        """x and the carry (the drafts; the mask where there is none) [m, 2 K - 1], prediction [m, K + K^2, vocab]."""
        m, cells = x.shape
        size, wanted = self.size, self.open(x) if turn.wanted is None else turn.wanted
        said = prediction.float()
        said[..., self.mask_id] = float("-inf")
        following, branches = said[:, :size], said[:, size:].view(m, size, size, -1)
        if self.trust < 1:
            following = (self.trust * following + (1 - self.trust) * branches[:, :, 0]).nan_to_num(nan=float("-inf"))
        # the number of a cell is the same whenever, and from whatever branch, its token is drawn
        uniform = None if self.sampler.greedy else turn.draw("uniform", cells)
        verified = self.sampler(following.flatten(0, 1), None if uniform is None else uniform[:, :size].flatten())
        token = verified.token.view(m, size)
        drafts = torch.full_like(x, self.mask_id) if turn.carry is None else turn.carry
        right = (token[:, : size - 1] == drafts[:, : size - 1]).long().cumprod(1).sum(1)
        place = torch.arange(cells, device=x.device)
        fixed = wanted & (place <= right[:, None])
        found = F.pad(token, (0, cells - size))
        log_prob = None
        if turn.details:
            log_prob = F.pad(verified.confidence.clamp_min(1e-38).log().view(m, size), (0, cells - size))
            log_prob = log_prob.where(fixed, 0.0)
        ahead = branches[torch.arange(m, device=x.device), right, 1:]  # of the branch whose tokens are right
        behind = right[:, None] + 1 + torch.arange(size - 1, device=x.device)
        numbers = None if uniform is None else uniform.gather(1, behind).flatten()
        proposed = self.sampler(ahead.flatten(0, 1), numbers).token.view(m, size - 1)
        drafts = torch.full_like(x, self.mask_id).scatter(1, behind, proposed)
        x = found.where(fixed, x)
        top = likeliest((place < size).expand(m, cells), verified, turn.top)
        return Advanced(x, None, log_prob, drafts, top)
