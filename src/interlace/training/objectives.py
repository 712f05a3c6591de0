"""What is learnt: next tokens, or the denoising of units given a clean or a noisy past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from ..arrangements import Arrangement, taken
from ..attention.kernels import make_mask
from ..attention.patterns import BlockCausal, Causal, Pattern, Tags, TwoCopy
from ..errors import SettingError
from ..grid import Noise
from ..masking import Independent, Masking
from ..processes import NextToken, Process
from ..processes.masked import MaskedTokens
from .batch import Batch
from .teacher import Teacher, in_order

if TYPE_CHECKING:
    from ..layouts import Layout
    from ..nn import Transformer

__all__ = ["DenoisingLoss", "Loss", "NextTokenLoss", "Objective", "OneCopyLoss", "TwoCopyLoss"]

NOT_ZERO = 1e-6
"""A level that the network embeds like any other; 0 marks a clean token."""


class Loss(NamedTuple):
    """total: sum of the weighted losses of all learnt tokens (nats, or squared error). count: how many tokens it is
    divided by, the label tokens of the batch. parts: sums worth logging, by name."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # a tuple has a method of this name
    parts: dict[str, Tensor]


class Objective(Protocol):
    """(network, batch, seed, step) -> Loss; the noise is a function of (seed, step, row number) alone."""

    def __call__(self, network: Transformer, batch: Batch, seed: int, step: int) -> Loss: ...


def _follows(document: Tensor) -> Tensor:
    """Whether a token, from the second of a row on, has one before it in its document."""
    return (document[:, 1:] == document[:, :-1]) & (document[:, 1:] >= 0)


def next_token_loss(network: Transformer, hidden: Tensor, content: Tensor, document: Tensor) -> Tensor:
    """-log p(x_i | x_<i) of every token from the second of a row on, 0 where none is before it: float [rows, n - 1]."""
    clean = content[:, 1:]
    # every position but the last of a row is predicted at once: a fixed shape, the mask applied to the loss
    prediction = network.head(hidden[:, :-1]).flatten(0, 1)
    flat, level = clean.flatten(), torch.zeros((), device=clean.device)
    return NextToken().loss(prediction, flat, flat, level).view_as(clean) * _follows(document)


@dataclass(frozen=True)
class NextTokenLoss:
    """L = sum_i -log p(x_i | x_<i), over every token that has one before it in its document."""

    pattern: Pattern = Causal()

    def __call__(self, network: Transformer, batch: Batch, seed: int, step: int) -> Loss:
        document, hidden = batch.document, in_order(network, batch, self.pattern)
        losses = next_token_loss(network, hidden, batch.content, document)
        return Loss(losses.sum(), _follows(document).sum(), {})


@dataclass(frozen=True)
class DenoisingLoss:
    """Noisy copies of a row, each denoised unit by unit; a subclass says whether a clean copy is there to be seen.

    L = sum over learnt tokens of process.loss / (number of label tokens). All copies carry the same positions. A token
    is predicted where its process reads it: at itself, or (``shift`` 1) at the token before it in the same copy, so
    the first token of a document is never learnt then.

    Args:
        process, layout: what is learnt, of which units. pattern: who sees whom; the noisy copies are 1, 2, ...
        levels: drawn uniformly, one per "document" (SDAR) or one per "unit" (ACDiT).
        drop_label: chance of a row to be given the null label (classifier-free guidance).
        masking: how many tokens of a unit are noisy, and which.
        arrangement: the order in which the noisy tokens of a unit stand physically, if not that of their places.
        next_token: weight w of L_AR, the next-token loss of the clean copy, in L = (L_denoising + w L_AR) / (1 + w).
        anywhere: units begin at places drawn anew for every row and step, not at the first token of a document: for
            systems that denoise from any token on.
        views: noisy copies of a row: "one"; two "complementary" ones (what is masked in one is not in the other, so
            every token is learnt once in every row; Fast-dLLM v2, arXiv:2509.26328); or two "independent" ones.
        teacher: a next-token model whose probabilities are learnt, in place of tokens, where it can know them.

    Raises ``SettingError`` for unknown ``levels`` and ``views``, for complementary views of a process that has none,
    for a shifted process in an arrangement, for a next-token loss without a clean copy, and for a teacher of a process
    without masks.
    """

    process: Process
    layout: Layout
    pattern: Pattern
    levels: str = "document"
    drop_label: float = 0.0
    masking: Masking = Independent()
    views: str = "one"
    arrangement: Arrangement | None = None
    next_token: float = 0.0
    anywhere: bool = False
    teacher: Teacher | None = None

    clean_copy: ClassVar[bool]

    def __post_init__(self) -> None:
        if self.levels not in ("document", "unit"):
            raise SettingError(f"unknown levels {self.levels!r}; pass document or unit")
        if self.views not in ("one", "complementary", "independent"):
            raise SettingError(f"unknown views {self.views!r}; pass one, complementary or independent")
        if self.views == "complementary" and getattr(self.process, "weighted", True):
            raise SettingError("complementary views count every token once; use a masked process with weighted=False")
        if self.arrangement is not None and self.process.shift:
            raise SettingError("the token before one is not at the place before it in an arrangement; use shift=0")
        if self.next_token and not self.clean_copy:
            raise SettingError(
                "the next-token loss is that of the clean copy, and there is none; leave next_token at 0"
            )
        if self.teacher is not None and not isinstance(self.process, MaskedTokens):
            raise SettingError(
                f"a teacher says what stands behind masks, and {type(self.process).__name__} has none; leave it out"
            )

    def __call__(self, network: Transformer, batch: Batch, seed: int, step: int) -> Loss:
        clean, document, shift = batch.content, batch.document, self.process.shift
        rows, n = document.shape
        vocabulary = network.config.vocab_size
        level, noise, coin = self.draw(batch, seed, step, vocabulary)
        label_tokens = _learnable(batch)
        views, weights = [self.process.corrupt(clean, level, noise)], [level]
        if self.views == "complementary":
            views, weights = [*views, self.process.complement(views[0], clean)], [level, level]  # type: ignore[attr-defined]
        elif self.views == "independent":
            other, noise, _ = self.draw(batch, seed + (1 << 40), step, vocabulary)
            views, weights = [*views, self.process.corrupt(clean, other, noise)], [level, other]
        known = ~label_tokens if clean.dim() == 2 else ~label_tokens.unsqueeze(-1)
        views = [clean.where(known, view.to(clean.dtype)) for view in views]
        unit = self._unit(batch, seed, step)
        place = self.layout.positions(batch.index if batch.place is None else batch.place)
        targets, places = [clean] * len(views), [place] * len(views)
        orders = [torch.arange(n, device=unit.device).expand(rows, n)] * len(views)
        if self.arrangement is not None:
            group = _groups(unit, document)
            orders = [self.arrangement(self.process.open(view), group) for view in views]
            views, targets, places, weights = (
                [taken(x, order) for x, order in zip(some, orders, strict=True)]
                for some in (views, targets, places, weights)
            )
        copies = [*views, clean] if self.clean_copy else views
        tag = torch.tensor([*range(1, len(views) + 1), 0][: len(copies)], device=unit.device).repeat_interleave(n)
        index, units, documents = (t.repeat(1, len(copies)) for t in (batch.index, unit, document))
        tags = Tags(index, units, documents, tag.expand(rows, -1))
        told: dict[str, Tensor] = {}
        if self.process.conditioned:
            levels = [one.clamp_min(NOT_ZERO) for one in weights]
            told["level"] = torch.cat([*levels, torch.zeros_like(level)][: len(copies)], 1)
        if batch.label is not None:
            label = batch.label.masked_fill(coin < self.drop_label, network.config.classes)
            told["label"] = label[:, None].expand(rows, len(copies) * n)
        mask = make_mask(self.pattern, tags)
        hidden = network(torch.cat(copies, 1), torch.cat([*places, place][: len(copies)], 1), mask, **told)
        whole = hidden.view(rows, len(copies), n, -1)
        hidden = whole[:, : len(views)]

        shown, target, weight = (torch.stack(some, 1) for some in (views, targets, weights))
        learns = self.process.learns(shown, target) & label_tokens.unsqueeze(1)
        masked = learns.clone()
        if shift:
            learns[:, :, :shift] = False
            learns[:, :, shift:] &= (document[:, shift:] == document[:, :-shift]).unsqueeze(1)
            hidden = hidden.roll(shift, 2)
        # the head only where something is learnt
        prediction = network.head(hidden[learns])
        truth, parts = [x[learns] for x in (target, shown, weight)], {"learnt": learns.sum()}
        if self.teacher is None:
            total = self.process.loss(prediction, *truth).sum()
        else:
            soft = learns & self.teacher.teaches(batch, self.pattern, tags, masked, torch.stack(orders, 1))
            row, view, at = soft.nonzero(as_tuple=True)
            said = self.teacher(batch, row, torch.stack(orders, 1)[row, view, at], vocabulary)
            soft = soft[learns]
            total = self.process.loss(prediction[~soft], *(x[~soft] for x in truth)).sum()
            total = total + self.process.loss(prediction[soft], said, *(x[soft] for x in truth[1:])).sum()
            parts["taught"] = soft.sum()
        if self.next_token:
            following = next_token_loss(network, whole[:, -1], clean, document).sum()
            total, parts["next_token"] = (total + self.next_token * following) / (1 + self.next_token), following
        return Loss(total, label_tokens.sum(), parts)

    def _unit(self, batch: Batch, seed: int, step: int) -> Tensor:
        """The unit of every token in its document, [rows, n]."""
        if not self.anywhere:
            return self.layout.unit(batch.index)
        rows = len(batch.row)
        drawn = Noise((seed,)).uniform([0] * rows, [4 * r + 3 for r in batch.row], [step] * rows, ())
        ahead = (drawn * self.layout.size).long().to(batch.index.device)
        return self.layout.unit(batch.index + ahead[:, None])

    def draw(self, batch: Batch, seed: int, step: int, vocabulary: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """level [rows, n], noise [rows, n, ...], coin [rows]; functions of (seed, step, row number)."""
        document = batch.document
        rows, n = document.shape
        noise = Noise((seed,), document.device, vocabulary)
        first, steps = [0] * rows, [step] * rows
        where, shape = (first, [4 * r for r in batch.row], steps), batch.content.shape[1:]
        drawn = noise.normal(*where, shape) if self.process.noise == "normal" else noise.uniform(*where, shape)
        many = noise.uniform(first, [4 * r + 1 for r in batch.row], steps, (n,))
        coin = noise.uniform(first, [4 * r + 2 for r in batch.row], steps, ())
        group = _groups(self._unit(batch, seed, step), document)
        level = many.gather(1, group if self.levels == "unit" else document.clamp_min(0))
        level, drawn = self.masking(level, drawn, group.masked_fill(~_learnable(batch), -1))
        if self.process.noise == "token":
            drawn = drawn.double() + noise.token(*where, shape)
        return level, drawn, coin


def _learnable(batch: Batch) -> Tensor:
    """The tokens that may be noisy, [rows, n]: neither padding nor given."""
    real = batch.document >= 0
    return real if batch.given is None else real & ~batch.given


def _groups(unit: Tensor, document: Tensor) -> Tensor:
    """Units numbered along the row: those of two documents are two, and padding between them is one of its own."""
    starts = torch.ones_like(unit, dtype=torch.bool)
    starts[:, 1:] = (unit[:, 1:] != unit[:, :-1]) | (document[:, 1:] != document[:, :-1])
    return starts.cumsum(1) - 1


@dataclass(frozen=True)
class TwoCopyLoss(DenoisingLoss):
    """Rows of [noisy copy ; clean copy]: every unit is denoised given the clean units before it.

    So a noisy unit is learnt from exactly what it sees in sampling. BD3-LM (arXiv:2503.09573), SDAR (arXiv:2510.06303),
    ACDiT (arXiv:2412.07720). Arguments, errors: ``DenoisingLoss``.
    """

    pattern: Pattern = TwoCopy()

    clean_copy = True


@dataclass(frozen=True)
class OneCopyLoss(DenoisingLoss):
    """One noisy copy: every unit sees itself and the earlier units *at their own noise levels* (diffusion forcing).

    All in one pass over n tokens, where ``TwoCopyLoss`` takes 2 n and shows a clean past. With a single unit per row
    the two losses are the same; under ``Bidirectional`` it is plain masked diffusion. Levels and noise are drawn as
    there, number for number. A network with levels is told that of every token, so it is sampled through ``ToldClean``.
    Source: diffusion forcing (arXiv:2407.01392). Arguments, errors: ``DenoisingLoss``.
    """

    pattern: Pattern = BlockCausal()
    levels: str = "unit"

    clean_copy = False
