"""What is learnt: one objective for one-copy rows (next token), one for two-copy rows (diffusion inside units)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from ..attention.kernels import make_mask
from ..attention.patterns import Causal, Pattern, Tags, TwoCopy
from ..errors import SettingError
from ..grid import Noise
from ..processes import NextToken, Process
from .batch import Batch

if TYPE_CHECKING:
    from ..layouts import Layout
    from ..nn import Transformer

__all__ = ["Loss", "NextTokenLoss", "Objective", "TwoCopyLoss"]


class Loss(NamedTuple):
    """total: sum of the weighted losses of all learnt tokens (nats, or squared error). count: how many tokens it is
    divided by, the label tokens of the batch. parts: sums worth logging, by name."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # a tuple has a method of this name
    parts: dict[str, Tensor]


class Objective(Protocol):
    """(network, batch, seed, step) -> Loss; the noise is a function of (seed, step, row number) alone."""

    def __call__(self, network: Transformer, batch: Batch, seed: int, step: int) -> Loss: ...


@dataclass(frozen=True)
class NextTokenLoss:
    """L = sum_i -log p(x_i | x_<i), over every token that has one before it in its document."""

    pattern: Pattern = Causal()
    process: NextToken = NextToken()

    def __call__(self, network: Transformer, batch: Batch, seed: int, step: int) -> Loss:
        document = batch.document
        mask = make_mask(self.pattern, Tags(batch.index, batch.index, document, torch.zeros_like(document)))
        hidden = network(batch.content, batch.index if batch.place is None else batch.place, mask)
        learns = (document[:, 1:] == document[:, :-1]) & (document[:, 1:] >= 0)
        clean = batch.content[:, 1:]
        # every position but the last of a row is predicted at once: a fixed shape, the mask applied to the loss
        prediction = network.head(hidden[:, :-1]).flatten(0, 1)
        flat, level = clean.flatten(), torch.zeros((), device=clean.device)
        losses = self.process.loss(prediction, flat, flat, level).view_as(clean)
        return Loss((losses * learns).sum(), learns.sum(), {})


@dataclass(frozen=True)
class TwoCopyLoss:
    """Rows of [noisy copy ; clean copy]: every unit is denoised given the clean units before it.

    L = sum over learnt tokens of process.loss / (number of label tokens). The level is drawn uniformly, one per
    document (``levels="document"``, SDAR) or one per unit (``"unit"``, ACDiT). Both copies carry the same positions.
    ``drop_label``: chance of a row to be given the null label (classifier-free guidance).

    Raises ``SettingError`` for a process whose prediction is not read at the token itself, and for unknown ``levels``.
    """

    process: Process
    layout: Layout
    pattern: Pattern = TwoCopy()
    levels: str = "document"
    drop_label: float = 0.0

    def __post_init__(self) -> None:
        if self.process.shift:
            raise SettingError(f"a prediction shifted by {self.process.shift} has no two-copy loss; use shift=0")
        if self.levels not in ("document", "unit"):
            raise SettingError(f"unknown levels {self.levels!r}; pass document or unit")

    def __call__(self, network: Transformer, batch: Batch, seed: int, step: int) -> Loss:
        clean, document = batch.content, batch.document
        rows, n = document.shape
        level, noise, coin = self.draw(batch, seed, step)
        label_tokens = document >= 0
        noisy = self.process.corrupt(clean, level, noise)
        noisy = noisy.where(label_tokens if clean.dim() == 2 else label_tokens.unsqueeze(-1), clean)

        unit = self.layout.unit(batch.index)
        once = Tags(batch.index, unit, document, torch.ones_like(unit))
        twice = zip(once, once._replace(copy=torch.zeros_like(unit)), strict=True)
        tags = Tags(*(torch.cat(pair, 1) for pair in twice))
        positions = self.layout.positions(batch.index if batch.place is None else batch.place)
        told: dict[str, Tensor] = {}
        if self.process.conditioned:
            told["level"] = torch.cat((level.clamp_min(1e-6), torch.zeros_like(level)), 1)
        if batch.label is not None:
            null = network.config.classes
            label = batch.label.masked_fill(coin < self.drop_label, null)
            told["label"] = label[:, None].expand(rows, 2 * n)
        content = torch.cat((noisy.to(clean.dtype), clean), 1)
        mask = make_mask(self.pattern, tags)
        hidden = network(content, torch.cat((positions, positions), 1), mask, **told)

        learns = self.process.learns(noisy, clean) & label_tokens
        # the head only where something is learnt
        prediction = network.head(hidden[:, :n][learns])
        losses = self.process.loss(prediction, clean[learns], noisy[learns], level[learns])
        return Loss(losses.sum(), label_tokens.sum(), {"learnt": learns.sum()})

    def draw(self, batch: Batch, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """level [rows, n], noise [rows, n, ...], coin [rows]; functions of (seed, step, row number)."""
        rows, n = batch.document.shape
        noise = Noise((seed,), batch.document.device)
        first, steps = [0] * rows, [step] * rows
        kind = noise.uniform if self.process.noise == "uniform" else noise.normal
        drawn = kind(first, [4 * r for r in batch.row], steps, batch.content.shape[1:])
        many = noise.uniform(first, [4 * r + 1 for r in batch.row], steps, (n,))
        coin = noise.uniform(first, [4 * r + 2 for r in batch.row], steps, ())
        group = batch.document.clamp_min(0)
        if self.levels == "unit":
            # units are numbered within their document; make the pair (document, unit) one number, below n
            unit = self.layout.unit(batch.index)
            starts = torch.ones_like(unit, dtype=torch.bool)
            starts[:, 1:] = (unit[:, 1:] != unit[:, :-1]) | (group[:, 1:] != group[:, :-1])
            group = starts.cumsum(1) - 1
        return many.gather(1, group), drawn, coin
