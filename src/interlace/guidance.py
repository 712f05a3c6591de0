"""Guidance: a prediction made from two, one of which was not told what is wanted."""

from __future__ import annotations

from collections.abc import Callable
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
    """

    scale: float
    null: int

    hides = False

    def __call__(self, predict: Callable[..., Tensor], label: Tensor | None) -> Tensor:
        if label is None:
            raise SettingError("guidance needs a label for every row; pass label=[...]")
        conditional = predict(label)
        if self.scale == 1:
            return conditional
        return _guided(conditional, predict(torch.full_like(label, self.null)), self.scale)


@dataclass(frozen=True)
class UnsupervisedGuidance:
    """null + scale * (conditional - null): two forwards a step, of the row, and of the row with its prompt masked.

    Masked is all that was known at the start, before and behind what is open. Every key depends on it, so nothing of
    the past can be kept (memory "none"). Source: LLaDA (arXiv:2502.09992), whose ``cfg_scale`` is scale - 1;
    unsupervised guidance of masked models, arXiv:2410.18514.

    >>> said = iter(torch.tensor([[2.0, 0.0], [1.0, 0.0]]))           # with the prompt, and without it
    >>> UnsupervisedGuidance(1.5)(lambda label, hide=False: next(said), None)
    tensor([2.5000, 0.0000])
    """

    scale: float

    hides = True

    def __call__(self, predict: Callable[..., Tensor], label: Tensor | None) -> Tensor:
        conditional = predict(label)
        return _guided(conditional, predict(label, hide=True), self.scale)


def _guided(conditional: Tensor, null: Tensor, scale: float) -> Tensor:
    return null + scale * (conditional - null)
