"""Guidance: a prediction made from two, one of which was not told what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import SettingError

__all__ = ["ClassifierFree", "UnsupervisedGuidance"]


@dataclass(frozen=True)
class ClassifierFree:
    """null + scale * (conditional - null): two forwards a step, under the row's label and under the ``null`` label.

    Clean units are not told the label, so both forwards read and write the same memory. Source: arXiv:2207.12598.
    Raises ``SettingError`` for rows without a label.

    >>> guide = ClassifierFree(1.5, null=9)
    >>> guide.told(torch.tensor([3]))
    [(tensor([3]), False), (tensor([9]), False)]
    >>> guide([torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])])
    tensor([2.5000, 0.0000])
    """

    scale: float
    null: int

    hides = False

    def told(self, label: Tensor | None) -> list[tuple[Tensor | None, bool]]:
        if label is None:
            raise SettingError("guidance needs a label for every row; pass label=[...]")
        return [(label, False)] if self.scale == 1 else [(label, False), (torch.full_like(label, self.null), False)]

    def __call__(self, said: Sequence[Tensor]) -> Tensor:
        return said[0] if self.scale == 1 else _guided(said, self.scale)


@dataclass(frozen=True)
class UnsupervisedGuidance:
    """null + scale * (conditional - null): two forwards a step, of the row, and of the row with its prompt masked.

    Masked is all that was known at the start, before and behind what is open. Every key depends on it, so nothing of
    the past can be kept (memory "none"). Source: LLaDA (arXiv:2502.09992), whose ``cfg_scale`` is scale - 1;
    unsupervised guidance of masked models, arXiv:2410.18514.

    >>> UnsupervisedGuidance(1.5)(torch.tensor([[2.0, 0.0], [1.0, 0.0]]))     # with the prompt, and without it
    tensor([2.5000, 0.0000])
    """

    scale: float

    hides = True

    def told(self, label: Tensor | None) -> list[tuple[Tensor | None, bool]]:
        return [(label, False), (label, True)]

    def __call__(self, said: Sequence[Tensor]) -> Tensor:
        return _guided(said, self.scale)


def _guided(said: Sequence[Tensor], scale: float) -> Tensor:
    conditional, null = said
    return null + scale * (conditional - null)
