"""Uniform noise: a token is either itself or any other, and nothing tells which."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SettingError
from ..paces import Growing, Pace
from ..reveal import DependenceBounded, Reveal
from ..sampling import Sampler
from .proposing import likeliest as likeliest_of
from .proposing import propose, within
from .protocol import Advanced, Draw, Turn

__all__ = ["UniformTokens"]


@dataclass(frozen=True)
class UniformTokens:
    """q(x_t | x) replaces each token by any of the vocabulary, with probability t; loss = CE of every token.

    What is noise is not marked: the network says what every token was, noisy or not, and so corrects as well as fills.
    In sampling a unit begins as random tokens. A step draws candidates for all of them, a reveal rule accepts some, and
    all others become random tokens anew. What is accepted is shown to the next step, and may be replaced there: no
    token is final before its unit is. A unit ends when the likeliest tokens have stayed the same for ``patience`` steps
    and the mean entropy of its tokens is below ``enough``, or after its last step; its text is the likeliest tokens.

    An open token with draft v is the number ~v = -v - 1, so that content says both what is open and what is shown.

    Args:
        reveal, sampler, pace: which candidates are accepted, how they are drawn, the quota of a step. cooling: from the
            first step to the last, the temperature falls linearly towards this share of itself (1: it stays).
        patience: steps of no change before a unit may end early. enough: nats; 0: it never does.

    Source: D3PM's uniform process (arXiv:2107.03006); DiffusionGemma's sampler, and the loss with which it is tuned,
    which weights all tokens and levels alike. ``divergence`` gives the bound that this loss is not.

    Raises ``SettingError`` for a ``cooling`` outside of 0 to 1, a negative ``patience`` or ``enough``.

    >>> noise = torch.tensor([[7.2, 5.9]])                    # the token 7 and the number 0.2; 5 and 0.9
    >>> UniformTokens().corrupt(torch.tensor([[1, 2]]), torch.full((1, 2), 0.5), noise).tolist()
    [[7, 2]]
    """

    reveal: Reveal = DependenceBounded(0.1)
    sampler: Sampler = field(default_factory=Sampler)
    pace: Pace = Growing()
    cooling: float = 1.0
    patience: int = 1
    enough: float = 0.005

    shift = 0
    feeds_draft = True
    conditioned = False
    noise = "token"

    def __post_init__(self) -> None:
        if not 0 < self.cooling <= 1:
            raise SettingError(f"cooling is {self.cooling}; pass a share of the temperature, 1 to keep it")
        if self.patience < 0 or not self.enough >= 0:
            raise SettingError(f"patience is {self.patience} and enough {self.enough}; pass steps and nats, 0 or more")

    def corrupt(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        token = noise.long()
        return token.where(noise - token < level, clean)

    def learns(self, noisy: Tensor, clean: Tensor) -> Tensor:
        return torch.ones_like(clean, dtype=torch.bool)

    def loss(self, prediction: Tensor, clean: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        return F.cross_entropy(prediction.float(), clean, reduction="none")

    def prior(self, draw: Draw, m: int, *shape: int) -> Tensor:
        return ~draw("token", *shape)

    def shown(self, x: Tensor) -> Tensor:
        return torch.where(x < 0, ~x, x)

    def level(self, x: Tensor) -> Tensor:
        return (x < 0).sum(-1) / x.shape[-1]

    def open(self, x: Tensor) -> Tensor:
        return x < 0

    def advance(self, x: Tensor, prediction: Tensor, turn: Turn) -> Advanced:
        """The carry [m, size, 2]: the likeliest tokens of the step before, and for how many steps they have stayed."""
        open = self.open(x) if turn.wanted is None else turn.wanted
        warmth = 1 - (1 - self.cooling) * turn.step / turn.of
        logits = prediction.float() / within(open, warmth[:, None].expand_as(x), len(prediction))[:, None]
        proposal = propose(open, logits, self.sampler, self.pace, turn)
        accepted = self.reveal(proposal)

        best = proposal.drawn.best
        likeliest = x.masked_scatter(open, best.token)
        stayed = torch.zeros_like(turn.step)
        if turn.carry is not None:
            same = ((likeliest == turn.carry[..., 0]) | ~open).all(1) & (turn.step > 0)
            stayed = (turn.carry[:, 0, 1] + 1).where(same, 0)
        doubt = proposal.entropy.sum(1) / open.sum(1).clamp_min(1)
        done = ((stayed >= self.patience) & (doubt < self.enough)) | (turn.step == turn.of - 1)

        random = turn.draw("token", x.shape[1])
        draft = ~proposal.token.where(accepted, random)
        after = likeliest.where(done[:, None], draft).where(open, x)
        log_prob = None
        if turn.details:
            log_prob = torch.zeros_like(proposal.confidence)
            log_prob[open] = best.confidence.clamp_min(1e-38).log()
            log_prob = log_prob.where(done[:, None], 0.0)
        carry = torch.stack((likeliest, stayed[:, None].expand_as(x)), -1)
        return Advanced(after, None, log_prob, carry, likeliest_of(open, best, turn.top))

    def divergence(self, prediction: Tensor, clean: Tensor, noisy: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """KL( q(x_s | x_t, x) || sum_y p(y) q(x_s | x_t, y) ) of every token, in nats, float [m]; 0 <= s < t <= 1.

        What a step from t to s costs an ancestral sampler that draws the clean token y from the prediction p, and then
        x_s. Summed over the steps from 1 to 0 it bounds -log p(x) from above; the last one is -log p(x) itself.
        """
        count = prediction.shape[-1]
        p = prediction.float().softmax(-1)

        def at(table: Tensor, token: Tensor) -> Tensor:
            return table.gather(-1, token[:, None])[:, 0]

        kept = noisy == clean
        # 1 / q(x_t | y), for y the noisy token and for any other one
        own, other = 1 / (1 - t + t / count), count / t
        mean = at(p, noisy) * own + (1 - at(p, noisy)) * other
        scale = other[:, None].expand_as(p).scatter(-1, noisy[:, None], own[:, None])
        # q(x_s | y) / q(x_t | y), averaged over p: what q(x_t | x_s) is to be multiplied by
        said = ((1 - s)[:, None] * p * scale + (s / count * mean)[:, None]).clamp_min(1e-38).log()
        one = own.where(kept, other)  # the same of the clean token alone
        # q(x_t | x_s), for x_s = x_t and for any other one
        stays = (1 - t) / (1 - s) + (t - s) / (1 - s) / count
        moves = (t - s) / (1 - s) / count
        rare, right = s / count * one, (1 - s + s / count) * one

        def cost(weight: Tensor, target: Tensor, found: Tensor) -> Tensor:
            return torch.where(target > 0, weight * target * (target.clamp_min(1e-38).log() - found), 0.0)

        others = count * torch.where(rare > 0, moves * rare * rare.clamp_min(1e-38).log(), 0.0)
        others -= moves * rare * said.sum(-1)
        # every token was counted as neither the noisy nor the clean one; these two are counted anew
        at_noisy = cost(stays, right.where(kept, rare), at(said, noisy)) - cost(moves, rare, at(said, noisy))
        at_clean = cost(moves, right, at(said, clean)) - cost(moves, rare, at(said, clean))
        return others + at_noisy + at_clean.where(~kept, 0.0)
