"""Embedding of noise levels and class labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["LevelEmbedding"]


class LevelEmbedding(nn.Module):
    """Sinusoids of 1000 * level through a two-layer MLP, plus a class embedding.

    level: float [...] in [0, 1]; label: int64 [...] in 0..classes (``classes`` is the null label). Returns [..., size].
    Source: DiT (arXiv:2212.09748).
    """

    def __init__(self, size: int, classes: int = 0, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.hidden = nn.Linear(frequencies, size)
        self.out = nn.Linear(size, size)
        self.label = nn.Embedding(classes + 1, size) if classes else None

    def forward(self, level: Tensor, label: Tensor | None = None) -> Tensor:
        half = self.frequencies // 2
        rate = torch.exp(-math.log(10000.0) * torch.arange(half, device=level.device) / half)
        angle = 1000.0 * level.float().unsqueeze(-1) * rate
        wave = torch.cat((angle.cos(), angle.sin()), -1).to(self.hidden.weight.dtype)
        embedding = self.out(nn.functional.silu(self.hidden(wave)))
        if self.label is not None and label is not None:
            embedding = embedding + self.label(label)
        return embedding
