"""The best are drawn, not taken."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingError
from .protocol import Proposal, Reveal

__all__ = ["Tempered"]


@dataclass(frozen=True)
class Tempered:
    """Another rule, whose k best are k drawn without replacement with probabilities softmax(score / temperature).

    The score is what the rule ranks by: confidence, margin, -entropy. They are the k largest of
    score + temperature G, a Gumbel number G = -log(-log u) for every token (Gumbel-top-k, arXiv:1903.06059). Only
    that choice changes: a threshold is compared with the confidence itself, and a rule that takes no k best (left to
    right, a bound on entropies, chance) stays what it is. Temperature 0 is the rule; an infinite one leaves the score
    out: k tokens at random, every choice as likely as any other.

    Called ``alg_temp`` by Dream (arXiv:2508.15487); the infinite one is ``remasking="random"`` of LLaDA
    (arXiv:2502.09992). Raises ``SettingError`` for a negative temperature.

    >>> from types import SimpleNamespace
    >>> from .static import Static
    >>> open, one = torch.tensor([[True, True, True]]), torch.tensor([1])
    >>> drawn = SimpleNamespace(confidence=torch.tensor([0.9, 0.5, 0.4]))
    >>> draw = lambda kind, size: torch.tensor([[0.1, 0.2, 0.8]])     # Gumbel numbers -0.83, -0.48, 1.50
    >>> proposal = Proposal(open, drawn, one, 0 * one, of=3, draw=draw)
    >>> Tempered(Static(), 0.1)(proposal).tolist(), Tempered(Static(), 0.5)(proposal).tolist()
    ([[True, False, False]], [[False, False, True]])
    """

    rule: Reveal
    temperature: float

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise SettingError(
                f"the temperature of the order is {self.temperature}; pass 0 (the most confident), a positive number, "
                "or inf (any order)"
            )

    def __call__(self, proposal: Proposal) -> Tensor:
        def key(score: Tensor) -> Tensor:
            uniform = proposal.uniform.clamp_min(torch.finfo(torch.float32).tiny)
            gumbel = -(-uniform.log()).log()
            return gumbel if self.temperature == float("inf") else score + self.temperature * gumbel

        return self.rule(proposal.ranked(key))
