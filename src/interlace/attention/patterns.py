"""Attention patterns: one small predicate each, over the tags of a query and of a key.

A pattern says whether a query token may see a key token, from three numbers that every token carries. The same
predicate is evaluated densely (a boolean matrix for SDPA, a picture for people) and per index (a FlexAttention
``mask_mod``), so both kernels agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from ..errors import SettingError

__all__ = [
    "Bidirectional",
    "BlockCausal",
    "Branching",
    "Causal",
    "CausalPast",
    "Pattern",
    "PrefixBidirectional",
    "Tags",
    "TwoCopy",
    "dense",
]


class Tags(NamedTuple):
    """What a pattern may know of a token; integer tensors that broadcast against each other.

    index: place in its document, from 0. unit: the unit (block, frame, chunk) that it belongs to.
    document: tokens of different documents never see each other; -1 is padding, which sees and is seen by nothing.
    copy: 0 for the clean copy; 1, 2, ... for noisy ones. In sampling there is one: 0 for tokens of clean units, 1 for
    those of units that are not, and of live blocks (``Move.whole``) of which any is not.
    """

    index: Tensor  # type: ignore[assignment]  # a tuple has a method of this name
    unit: Tensor
    document: Tensor
    copy: Tensor

    def queries(self) -> Tags:
        """The tags shaped [..., n, 1]."""
        return Tags(*(t.unsqueeze(-1) for t in self))

    def keys(self) -> Tags:
        """The tags shaped [..., 1, n]."""
        return Tags(*(t.unsqueeze(-2) for t in self))

    def at(self, *where: Tensor | int) -> Tags:
        """The tags of single tokens (for FlexAttention, which asks index by index)."""
        return Tags(*(t[where] for t in self))


class Pattern(Protocol):
    """Who sees whom. ``pattern(q, k)`` is true where the query ``q`` may see the key ``k``.

    ``horizon(unit, units)`` is the last unit that any token of ``unit`` sees in a row of ``units`` units; no unit sees
    less far than the one before it. It tells a memory which clean units can be committed for ever: those that see clean
    units only.

    ``full(first, last, size)``: whether every token of the units ``first..last`` (of ``size`` tokens) sees every token
    of the units ``0..last``, so that a forward over them needs no mask.
    """

    def __call__(self, q: Tags, k: Tags) -> Tensor: ...

    def horizon(self, unit: int, units: int) -> int: ...

    def full(self, first: int, last: int, size: int) -> bool: ...


def dense(pattern: Pattern, q: Tags, k: Tags | None = None) -> Tensor:
    """The pattern as a boolean matrix [..., n_q, n_k], documents kept apart; True = may see.

    >>> import torch
    >>> i = torch.arange(3); z = torch.zeros(3, dtype=torch.long)
    >>> dense(Causal(), Tags(i, i, z, z)).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    rows, columns = q.queries(), (q if k is None else k).keys()
    return pattern(rows, columns) & (rows.document == columns.document) & (rows.document >= 0)


@dataclass(frozen=True)
class Causal:
    """Every token sees itself and all earlier ones: k.index <= q.index."""

    def __call__(self, q: Tags, k: Tags) -> Tensor:
        return k.index <= q.index

    def horizon(self, unit: int, units: int) -> int:
        return unit

    def full(self, first: int, last: int, size: int) -> bool:
        return first == last and size == 1


@dataclass(frozen=True)
class CausalPast:
    """What is clean is causal, as an autoregressive model reads; a noisy token sees all that it is fed with.

    clean -> clean: k.index <= q.index; clean -> noisy: never; noisy -> any. A forward ends with its live units, so
    noisy tokens see the clean past and each other, both ways. In training it is ``TwoCopy(Causal())``.
    Source: DiffusionGemma.
    """

    def __call__(self, q: Tags, k: Tags) -> Tensor:
        return (q.copy > 0) | ((k.copy == 0) & (k.index <= q.index))

    def horizon(self, unit: int, units: int) -> int:
        return unit

    def full(self, first: int, last: int, size: int) -> bool:
        return False


@dataclass(frozen=True)
class Bidirectional:
    """Every token sees every token."""

    def __call__(self, q: Tags, k: Tags) -> Tensor:
        return (k.index >= 0) & (q.index >= 0)

    def horizon(self, unit: int, units: int) -> int:
        return units - 1

    def full(self, first: int, last: int, size: int) -> bool:
        return True


@dataclass(frozen=True)
class PrefixBidirectional:
    """The first ``prefix`` units see each other both ways; every later token is causal.

    k.index <= q.index, or both k and q lie in the prefix.
    """

    prefix: int

    def __call__(self, q: Tags, k: Tags) -> Tensor:
        return (k.index <= q.index) | ((k.unit < self.prefix) & (q.unit < self.prefix))

    def horizon(self, unit: int, units: int) -> int:
        return max(unit, min(self.prefix, units) - 1) if unit < self.prefix else unit

    def full(self, first: int, last: int, size: int) -> bool:
        return (first == last and size == 1) or last < self.prefix


@dataclass(frozen=True)
class BlockCausal:
    """A token sees its own block, both ways, and all earlier blocks: k.unit <= q.unit, for blocks of one unit.

    Units of one token give ``Causal``; a single unit gives ``Bidirectional``. ``per`` units make a block.
    """

    per: int = 1

    def __post_init__(self) -> None:
        if self.per < 1:
            raise SettingError(f"per is {self.per}; pass 1 or more units per block")

    def __call__(self, q: Tags, k: Tags) -> Tensor:
        return k.unit <= q.unit if self.per == 1 else k.unit // self.per <= q.unit // self.per

    def horizon(self, unit: int, units: int) -> int:
        return min(unit - unit % self.per + self.per, units) - 1

    def full(self, first: int, last: int, size: int) -> bool:
        return first // self.per == last // self.per


@dataclass(frozen=True)
class Branching:
    """A causal row, and branches beside it: a branch sees the row up to the token that it hangs on, and itself whole.

    Of tokens beside the row (copy > 0), ``unit`` is the index of that token. The row never sees a branch.
    """

    def __call__(self, q: Tags, k: Tags) -> Tensor:
        row = (q.copy == 0) & (k.copy == 0) & (k.index <= q.index)
        return row | ((q.copy > 0) & (((k.copy == 0) & (k.index <= q.unit)) | (k.copy == q.copy)))

    def horizon(self, unit: int, units: int) -> int:
        return unit

    def full(self, first: int, last: int, size: int) -> bool:
        return False


@dataclass(frozen=True)
class TwoCopy:
    """The training layout of block diffusion: a noisy and a clean copy of the row, side by side.

    noisy -> noisy: the own unit only, all of it or as ``noisy`` says; noisy -> clean: earlier units only; clean ->
    clean: ``clean`` (by default block-causal); clean -> noisy: never. So every noisy unit is predicted from exactly
    what it sees in sampling: the clean past and itself. Known as SCAM in ACDiT (arXiv:2412.07720); also BD3-LM
    (arXiv:2503.09573) and SDAR (arXiv:2510.06303). The order of the copies in the row does not matter: the tags say
    which is which.
    """

    clean: Pattern = BlockCausal()
    noisy: Pattern = Bidirectional()

    def __call__(self, q: Tags, k: Tags) -> Tensor:
        own = (k.copy == q.copy) & (k.unit == q.unit) & self.noisy(q, k)
        noisy = (q.copy > 0) & (own | ((k.copy == 0) & (k.unit < q.unit)))
        return noisy | ((q.copy == 0) & (k.copy == 0) & self.clean(q, k))

    def horizon(self, unit: int, units: int) -> int:
        return self.clean.horizon(unit, units)

    def full(self, first: int, last: int, size: int) -> bool:
        return False
