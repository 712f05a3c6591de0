"""The first token before all others."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .protocol import Proposal, Reveal

__all__ = ["FirstAlone"]


@dataclass(frozen=True)
class FirstAlone:
    """The first token of a window alone, whatever its confidence; from then on another rule.

    Where a token is predicted at the one before it, that of the first stands outside of the window: once it is known,
    the window can be read by itself. So begins a block of Dream with a cache in Fast-dLLM (arXiv:2505.22618).

    >>> import torch
    >>> from types import SimpleNamespace
    >>> from .static import Static
    >>> open, drawn = torch.tensor([[True, True, True]]), SimpleNamespace(confidence=torch.tensor([0.2, 0.9, 0.5]))
    >>> one, rule = torch.tensor([1]), FirstAlone(Static())
    >>> rule(Proposal(open, drawn, one, 0 * one, of=3)).tolist()
    [[True, False, False]]
    >>> later = torch.tensor([[False, True, True]]), SimpleNamespace(confidence=torch.tensor([0.9, 0.5]))
    >>> rule(Proposal(*later, one, one, of=3)).tolist()
    [[False, True, False]]
    """

    rule: Reveal

    def __call__(self, proposal: Proposal) -> Tensor:
        first = proposal.open.clone()
        first[:, 1:] = False
        return first.where(first[:, :1], self.rule(proposal))
