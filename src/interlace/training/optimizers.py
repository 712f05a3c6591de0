"""Optimizers by name, and the learning rate over a run."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import SettingError
from .muon import Muon

__all__ = ["held_bytes", "learning_rate", "make_optimizers"]


def learning_rate(step: int, steps: int, peak: float, warmup: int, decay: float, shape: str) -> float:
    """Linear warm-up over ``warmup`` steps, then ``shape``: "constant"; "wsd", constant and in the last ``decay``
    share of the run linearly to 0; "cosine", to a tenth of the peak.

    >>> [round(learning_rate(s, 10, 1.0, 2, 0.5, "wsd"), 2) for s in (0, 1, 4, 5, 9)]
    [0.5, 1.0, 1.0, 1.0, 0.2]
    """
    warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if shape == "constant":
        return peak * warm
    if shape == "wsd":
        tail = max(1, round(steps * decay))
        return peak * warm * min(1.0, (steps - step) / tail)
    if shape == "cosine":
        return peak * warm * (0.55 + 0.45 * math.cos(math.pi * min(1.0, step / max(1, steps))))
    raise SettingError(f"unknown learning-rate shape {shape!r}; pass constant, wsd or cosine")


def _matrix(name: str, parameter: Tensor) -> bool:
    """Whether it is a matrix of the blocks."""
    return "blocks." in name and parameter.dim() == 2


def make_optimizers(
    parameters: Iterable[tuple[str, Tensor]], name: str, weight_decay: float, dtype: torch.dtype | None = None
) -> list[torch.optim.Optimizer]:
    """ "adamw": one AdamW. "muon": Muon for the matrices of the blocks, AdamW for everything else.

    Every parameter group carries ``scale``, the share of the run's learning rate that it gets. One learning
    rate serves both. dtype: what Muon orthogonalises in.
    """
    named = [(n, p) for n, p in parameters if p.requires_grad]
    matrices = [p for n, p in named if name == "muon" and _matrix(n, p)]
    chosen = {id(p) for p in matrices}
    decayed = [p for n, p in named if id(p) not in chosen and p.dim() >= 2]
    plain = [p for n, p in named if id(p) not in chosen and p.dim() < 2]
    groups = [
        {"params": decayed, "weight_decay": weight_decay, "scale": 1.0},
        {"params": plain, "weight_decay": 0.0, "scale": 1.0},
    ]
    groups = [g for g in groups if g["params"]]
    optimizers: list[torch.optim.Optimizer] = []
    fused = all(isinstance(p, nn.Parameter) and p.device.type in ("cpu", "cuda") for _, p in named)
    if groups:
        optimizers.append(torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=fused))
    if name == "muon":
        group = [{"params": matrices, "weight_decay": weight_decay, "scale": 1.0}]
        optimizers.append(Muon(group, lr=0.0, dtype=dtype))
    elif name != "adamw":
        raise SettingError(f"unknown optimizer {name!r}; pass adamw or muon")
    return optimizers


def held_bytes(parameters: Iterable[tuple[str, Tensor]], name: str, averaged: bool = False) -> int:
    """Bytes that learning holds beside the weights: a gradient of every learnt parameter, two moments (AdamW) or one
    (the matrices that Muon takes), and the average if there is one."""
    count = 0
    for parameter_name, p in parameters:
        if p.requires_grad:
            muon = name == "muon" and _matrix(parameter_name, p)
            count += p.numel() * p.element_size() * (1 + (1 if muon else 2) + averaged)
    return count
