"""Nats per token of a text: exact for an autoregressive model, an upper bound for a block-diffusion model.

Next token     -log p(x) = sum_i -log p(x_i | x_<i)
masked blocks  -log p(x) <= sum_b E_p [ 1/p sum_{i masked in b} -log p(x_i | x_b masked at rate p, x_<b) ],  p ~ U(0, 1)
random tokens  -log p(x) <= sum_b sum_k E_t [ sum_{i in b} KL( q(x_s | x_t, x_i) || p(x_s | x_t, x_<b) ) ],  t = k / L,
                                                                                             s = (k - 1) / L, k = 1..L

The expectation over the rate p is taken in closed form: masking every token of a block of L with probability p and
weighting by 1/p is, on average over p, the same as masking a uniform subset of m tokens, m uniform in 1..L, with the
weight L/m. So no draw is empty and no weight exceeds L, where 1/p has no bound; the expectation is unchanged, and equal
for every way of drawing p (one per document, as in SDAR's training, or one per block).

Where noise is random tokens, the bound is that of ancestral sampling in as many steps as a block of L has tokens
(``UniformTokens.divergence``). Ever more steps would cost a network that is not told the level ever more: it is never
sure enough that a token is clean.

Where a token is predicted at the one before it, the first token of a block comes from the clean past alone, as in
sampling: it costs its exact -log p, and the bound is over the others. Under full attention the text is one block.

Both kinds score the same tokens: all of a text except its first, which is given. What fills up the last block of a text
stays noise and is not scored. So numbers of models with one tokenizer compare per token, and others per byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arrangements import taken
from ..attention.kernels import make_mask
from ..attention.patterns import Bidirectional, Tags
from ..errors import DataError, SettingError
from ..grid import Noise
from ..processes import NextToken, Speculative
from ..training.objectives import DenoisingLoss, OneCopyLoss, TwoCopyLoss
from ..worlds.corpus import Document
from .noising import Asking, bounded, noised
from .progress import watched
from .rates import around, ratio

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Likelihood", "Row", "Score", "exact", "kind", "likelihood", "pieces", "room", "score"]


@dataclass(frozen=True)
class Likelihood:
    """What a text costs a model.

    nats: per token. standard_error: over texts (sampling of texts and, for a bound, of masks together). interval: 95%.
    kind: ``exact``, or ``bound`` (the true value is at most that, up to the standard error). bits_per_byte: of UTF-8,
    for models with different tokenizers. tokens, bytes: how much was scored. texts, draws, seed: how.
    """

    nats: float
    standard_error: float
    interval: tuple[float, float]
    kind: Literal["exact", "bound"]
    bits_per_byte: float
    tokens: int
    bytes: int
    texts: int
    draws: int
    seed: int


def pieces(documents: Iterable[Document], count: int, characters: int = 1200, seed: int = 0) -> list[str]:
    """``count`` pieces of whole lines, of at most ``characters`` characters, from places spread over the documents.

    A line that is longer is cut into several.
    The choice depends on the text and the seed alone, so models with different tokenizers are given the same bytes.
    Raises ``DataError`` where the documents are too short for so many.
    """
    if count < 1 or characters < 1:
        raise SettingError(f"{count} pieces of {characters} characters; pass 1 or more of both")
    found = [piece for document in documents for piece in _cut(document.text, characters)]
    if len(found) < count:
        raise DataError(f"the documents give {len(found)} pieces of {characters} characters; ask for at most that")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    return [found[i] for i in order[:count].tolist()]


def likelihood(
    model: Model,
    texts: Sequence[str | Document],
    draws: int = 4,
    seed: int = 0,
    length: int = 512,
    at_once: int = 8,
    progress: bool = False,
) -> Likelihood:
    """Nats per token of ``texts`` under a model.

    Args:
        texts: each is cut into stretches of at most ``length`` tokens; the first token of a stretch is given.
        draws: masks drawn per stretch (bound only). Their sizes are spread evenly over draws and blocks: that keeps the
            estimate unbiased and makes it steadier; as many as the block has tokens is a good choice.
        seed: of the masks; equal seeds give two models the same masks. ``at_once``: stretches per forward, which
            changes nothing but the speed.
    Raises ``SettingError`` for a process that has no likelihood here, ``DataError`` when no token is left to score.

    >>> likelihood(model, pieces(standard_library("heldout"), 64)).nats     # doctest: +SKIP
    """
    if draws < 1 or length < 2 or at_once < 1:
        raise SettingError(f"draws {draws}, length {length}, at_once {at_once}; pass at least 1, 2 and 1")
    length = min(length, room(model) - exact(model))
    rows = [row for text in texts for row in _stretches(model, text, length)]
    if not rows:
        raise DataError("the texts hold no token to score; pass texts of two tokens or more")
    asked = [Row(row, 1, seed, number) for number, row in enumerate(rows)]
    totals = [found.nats for found in score(model, asked, draws, at_once, progress)]
    sizes = [len(row) - 1 for row in rows]
    nats, error = ratio(totals, sizes)
    scored = sum(len(model.text(row[1:]).encode("utf-8", "replace")) for row in rows)
    return Likelihood(
        nats=nats,
        standard_error=error,
        interval=around(nats, error),
        kind="exact" if exact(model) else "bound",
        bits_per_byte=sum(totals) / math.log(2) / max(1, scored),
        tokens=sum(sizes),
        bytes=scored,
        texts=len(texts),
        draws=1 if exact(model) else draws,
        seed=seed,
    )


class Row(NamedTuple):
    """Token ids, of which those from ``given`` (1 or more) on are scored. Masks are drawn by (seed, number)."""

    tokens: list[int]
    given: int = 1
    seed: int = 0
    number: int = 0


class Score(NamedTuple):
    """nats: -log p of the tokens that were scored, given those before them, or a bound of it.

    likeliest: whether each of them is the likeliest behind those before it; None where only a bound is known.
    """

    nats: float
    likeliest: bool | None


def kind(model: Model) -> Literal["exact", "bound"] | None:
    """What is known of a model's likelihood: None where there is not even a bound here."""
    process, objective = model.parts.process, model.parts.objective
    if isinstance(process, NextToken | Speculative):
        return "exact"
    full = isinstance(objective, OneCopyLoss) and isinstance(objective.pattern, Bidirectional)
    return "bound" if bounded(process) and (full or isinstance(objective, TwoCopyLoss)) else None


def exact(model: Model) -> bool:
    """Whether a model's likelihood is known exactly. ``SettingError`` for one that has not even a bound here."""
    found = kind(model)
    if found is None:
        process = type(model.parts.process).__name__
        raise SettingError(
            f"{model.system.name} has no likelihood here ({process} and its objective give no bound); leave the "
            "likelihood out, or pass a next-token or a masked diffusion text model"
        )
    return found == "exact"


def room(model: Model) -> int:
    """How many tokens a row may have: the positions in whole blocks, and where it is exact one more, never fed."""
    objective, most = model.parts.objective, model.network.config.max_positions
    if exact(model):
        return most + 1
    return most // objective.layout.size * objective.layout.size if isinstance(objective, TwoCopyLoss) else most


def score(model: Model, rows: Sequence[Row], draws: int = 4, at_once: int = 8, progress: bool = False) -> list[Score]:
    """What the tokens of every row from ``given`` on cost, in nats.

    The tokens before are seen as they are, so a bound is one of -log p(tokens | given). A row costs the same in every
    batch, up to rounding. ``draws``, ``at_once``: as of ``likelihood``.
    """
    found: list[Score] = []
    known = exact(model)
    with torch.inference_mode():
        for first in watched(range(0, len(rows), at_once), -(-len(rows) // at_once), "likelihood", progress):
            some = rows[first : first + at_once]
            found += _exact(model, some) if known else _bound(model, some, draws)
    return found


def _cut(text: str, characters: int) -> list[str]:
    """Pieces of whole lines; the rest at the end counts when it is half a piece, or all that there is.

    A line that is longer than a piece (a paragraph of prose) is cut.
    """
    found, piece = [], ""
    for line in text.splitlines(keepends=True):
        for first in range(0, len(line), characters):
            part = line[first : first + characters]
            if piece and len(piece) + len(part) > characters:
                found.append(piece)
                piece = ""
            piece += part
    if piece and (2 * len(piece) >= characters or not found):
        found.append(piece)
    return found


def _stretches(model: Model, text: str | Document, length: int) -> list[list[int]]:
    """Token ids of a text, cut into stretches of at most ``length`` with something to score in each."""
    ids = model.encode_prompt(text if isinstance(text, str) else text.text)
    cut = [ids[i : i + length] for i in range(0, len(ids), length)]
    return [row for row in cut if len(row) > 1]


def _rectangle(rows: Sequence[Row], multiple: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """content, index, and given and length [rows, 1] of rows, filled up to whole units."""
    width = -(-max(len(row.tokens) for row in rows) // multiple) * multiple
    content = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        content[number, : len(row.tokens)] = torch.tensor(row.tokens)
    given, length = torch.tensor([[row.given, len(row.tokens)] for row in rows]).to(device).split(1, 1)
    return content.to(device), torch.arange(width, device=device).repeat(len(rows), 1), given, length


def _exact(model: Model, rows: Sequence[Row]) -> list[Score]:
    network = model.network
    content, index, given, length = _rectangle(rows, 1, next(network.parameters()).device)
    scored = ((index >= given) & (index < length))[:, 1:]
    content, index, wanted = content[:, :-1], index[:, :-1], content[:, 1:][scored]  # the last token predicts nothing
    document = torch.zeros_like(content).masked_fill(index >= length, -1)
    hidden = network(content, index, make_mask(model.parts.pattern, Tags(index, index, document, document)))
    logits = network.head(hidden[scored]).float()
    losses = F.cross_entropy(logits, wanted, reduction="none")
    totals = torch.zeros_like(scored, dtype=torch.float32).masked_scatter(scored, losses).double().sum(1)
    missed = torch.zeros_like(scored).masked_scatter(scored, logits.argmax(-1) != wanted).any(1)
    return [Score(nats, not other) for nats, other in zip(totals.tolist(), missed.tolist(), strict=True)]


def _bound(model: Model, rows: Sequence[Row], draws: int) -> list[Score]:
    objective, process = model.parts.objective, model.parts.process
    assert isinstance(objective, DenoisingLoss)
    network, layout, shift = model.network, objective.layout, process.shift
    clean, index, given, length = _rectangle(rows, layout.size, next(network.parameters()).device)
    count, width = clean.shape
    unit, positions = layout.unit(index), layout.positions(index)
    document = torch.zeros_like(clean).masked_fill(unit > layout.unit(length - 1), -1)
    once = Tags(index, unit, document, torch.ones_like(unit))
    pairs = zip(once, once._replace(copy=torch.zeros_like(unit)), strict=True)
    tags = Tags(*(torch.cat(pair, 1) for pair in pairs)) if objective.clean_copy else once
    mask = make_mask(objective.pattern, tags)
    size = layout.size if objective.clean_copy else width
    scored = (index >= given) & (index < length)
    totals = torch.zeros(count, dtype=torch.float64)
    seeds = scored & (index % size < shift)
    noise = Noise(tuple(row.seed for row in rows), clean.device, network.config.vocab_size)
    asking = Asking(clean, scored & ~seeds, seeds, index >= length, size, noise, [row.number for row in rows], draws)
    for draw in range(draws):
        noisy, asked, cost = noised(process, asking, draw)
        places = positions
        order = None if objective.arrangement is None else objective.arrangement(process.open(noisy), unit)
        if order is not None:
            noisy, places = taken(noisy, order), taken(positions, order)
        copies, where = ((noisy, clean), (places, positions)) if objective.clean_copy else ((noisy,), (places,))
        hidden = network(torch.cat(copies, 1), torch.cat(where, 1), mask).view(count, len(copies), width, -1)
        first_copy, last_copy = hidden[:, 0].roll(shift, 1), hidden[:, -1].roll(shift, 1)
        if order is not None:
            first_copy = taken(first_copy, order.argsort(1))
        told = torch.where(seeds[..., None], last_copy, first_copy)
        losses = cost(network.head(told[asked]).float())
        totals += torch.zeros_like(clean, dtype=torch.float32).masked_scatter(asked, losses).double().sum(1).cpu()
    return [Score(nats, None) for nats in (totals / draws).tolist()]
