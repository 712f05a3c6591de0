"""A process of which some tokens are made likelier, or less likely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .protocol import Advanced, Process, Turn

__all__ = ["Biased"]


@dataclass(frozen=True)
class Biased:
    """Logits of the given tokens are raised by the given amounts before the process sees them; all else is its own.

    Args:
        process: of tokens. tokens, amounts: ids, each once, and what is added to their logits; -100 in effect bans one.

    >>> from interlace.processes import AbsorbingMask
    >>> process = Biased(AbsorbingMask(mask_id=3), (1,), (-100.0,))
    >>> turn = Turn(torch.tensor([0]), 1, draw=torch.rand)
    >>> process.advance(torch.tensor([[3]]), torch.tensor([[0.0, 2.0, 1.0, 0.0]]), turn).x.tolist()
    [[2]]
    """

    process: Process
    tokens: tuple[int, ...]
    amounts: tuple[float, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.process, name)

    def advance(self, x: Tensor, prediction: Tensor, turn: Turn) -> Advanced:
        prediction = prediction.float()
        prediction[..., list(self.tokens)] += torch.tensor(self.amounts, device=prediction.device)
        return self.process.advance(x, prediction, turn)
