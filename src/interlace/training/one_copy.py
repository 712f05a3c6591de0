"""The noisy-context arm: every unit is denoised from a past that is itself noisy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..attention.kernels import make_mask
from ..attention.patterns import BlockCausal, Pattern, Tags
from ..processes import Process
from .batch import Batch
from .objectives import Loss, TwoCopyLoss

if TYPE_CHECKING:
    from ..layouts import Layout
    from ..nn import Transformer

__all__ = ["OneCopyLoss", "ToldClean"]

_NOT_ZERO = 1e-6  # a level that the network embeds like any other; 0 would mark a clean token, which it never meets


@dataclass(frozen=True)
class OneCopyLoss:
    """One noisy copy under a block-causal mask, its levels independent: diffusion forcing.

    L = sum over learnt tokens of process.loss / (number of label tokens); every unit sees itself and the earlier units
    *at their own noise levels*, all in one pass over n tokens, where ``TwoCopyLoss`` shows it clean ones in 2 n. With a
    single unit per row the two losses are the same. Levels and noise are drawn as there, number for number.

    A network with levels is told that of every token, so it is sampled through ``ToldClean``.
    Source: diffusion forcing (arXiv:2407.01392).
    """

    process: Process
    layout: Layout
    pattern: Pattern = BlockCausal()
    levels: str = "unit"
    drop_label: float = 0.0

    def __call__(self, network: Transformer, batch: Batch, seed: int, step: int) -> Loss:
        clean, document = batch.content, batch.document
        drawing = TwoCopyLoss(self.process, self.layout, levels=self.levels)
        level, noise, coin = drawing.draw(batch, seed, step)
        label_tokens = document >= 0
        noisy = self.process.corrupt(clean, level, noise)
        noisy = noisy.where(label_tokens if clean.dim() == 2 else label_tokens.unsqueeze(-1), clean).to(clean.dtype)
        tags = Tags(batch.index, self.layout.unit(batch.index), document, torch.ones_like(document))
        told: dict[str, Tensor] = {}
        if self.process.conditioned:
            told["level"] = level.clamp_min(_NOT_ZERO)
        if batch.label is not None:
            label = batch.label.masked_fill(coin < self.drop_label, network.config.classes)
            told["label"] = label[:, None].expand_as(document)
        positions = self.layout.positions(batch.index if batch.place is None else batch.place)
        hidden = network(noisy, positions, make_mask(self.pattern, tags), **told)
        learns = self.process.learns(noisy, clean) & label_tokens
        losses = self.process.loss(network.head(hidden[learns]), clean[learns], noisy[learns], level[learns])
        return Loss(losses.sum(), label_tokens.sum(), {"learnt": learns.sum()})


class ToldClean(nn.Module):
    """A network that is told level (and label) of clean tokens too, as one trained by ``OneCopyLoss`` expects.

    It takes the network's place in ``generate``. The keys of clean tokens then depend on the label, so with guidance
    it needs memory "none".
    """

    def __init__(self, network: Transformer) -> None:
        super().__init__()
        self.network, self.config = network, network.config

    def forward(self, *args: Any, level: Tensor | None = None, **told: Any) -> Tensor:
        return self.network(*args, level=None if level is None else level.clamp_min(_NOT_ZERO), **told)

    def head(self, hidden: Tensor) -> Tensor:
        return self.network.head(hidden)
