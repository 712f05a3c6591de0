"""By chance, as the process that masks runs backwards."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..grid import lifted, times
from .protocol import Proposal

__all__ = ["Ancestral"]


@dataclass(frozen=True)
class Ancestral:
    """Every open token with probability 1 - s / t, each on its own, from time t to time s; the last step all.

    That is the chance that a mask of the absorbing process at t is lifted by s, on an even grid of times from 1 to
    ``eps`` (``grid.lifted``); so a token is still open at t with probability t. Neither confidence nor quota is asked:
    a step fixes any number of tokens, and before the last it may be none.

    Ancestral sampling of D3PM (arXiv:2107.03006) and MDLM (arXiv:2406.07524); called ``origin`` by Dream
    (arXiv:2508.15487). Raises ``SettingError`` for an ``eps`` outside of 0 to 1.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> open, step = torch.tensor([[True, True, False, True]]), torch.tensor([0])
    >>> draw = lambda kind, size: torch.tensor([[0.1, 0.9, 0.1, 0.4]])
    >>> Ancestral()(Proposal(open, SimpleNamespace(), step, step, of=2, draw=draw)).tolist()
    [[True, False, False, True]]
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        times(1, self.eps)

    def __call__(self, proposal: Proposal) -> Tensor:
        chance = lifted(proposal.step, proposal.of, self.eps)
        return proposal.open & (proposal.uniform < chance[:, None])
