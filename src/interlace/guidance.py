"""Guidance: a prediction made from forwards under several labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import SettingError

__all__ = ["ClassifierFree"]


@dataclass(frozen=True)
class ClassifierFree:
    """null + scale * (conditional - null): two forwards a step, under the row's label and under the ``null`` label.

    Clean units are not told the label, so both forwards read and write the same memory. Source: arXiv:2207.12598.
    Raises ``SettingError`` for rows without a label.
    """

    scale: float
    null: int

    def __call__(self, predict: Callable[[Tensor | None], Tensor], label: Tensor | None) -> Tensor:
        if label is None:
            raise SettingError("guidance needs a label for every row; pass label=[...]")
        conditional = predict(label)
        if self.scale == 1:
            return conditional
        null = predict(torch.full_like(label, self.null))
        return null + self.scale * (conditional - null)
