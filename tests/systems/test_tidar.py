"""What must hold exactly of TiDAR (arXiv:2511.08923)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interlace.attention.patterns import Branching, Tags, dense
from interlace.errors import SettingError
from interlace.generation import OPEN, Result, collect, generate
from interlace.layouts import Blocks
from interlace.lookahead import Branches
from interlace.masking import Everything
from interlace.memory import ExactKV
from interlace.nn import Transformer, TransformerConfig
from interlace.systems import Parts, find
from interlace.training.batch import Batch

from .conftest import MASK, SHAPE, VOCABULARY, fill, same_alone_and_in_a_batch, tokens, two_copies


@cache
def network() -> Transformer:
    """Untied, so that its greedy texts vary."""
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, tied=False, **SHAPE)))


class Unmasked(nn.Module):
    """A network that never says the mask token, as a plain autoregressive reference."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.config = network(), network().config

    def forward(self, *args: Any, **told: Any) -> Tensor:
        return self.inner(*args, **told)

    def head(self, hidden: Tensor) -> Tensor:
        return self.inner.head(hidden).index_fill(-1, torch.tensor([MASK]), -torch.inf)


def tidar(**settings: Any) -> Parts:
    system = find("tidar")
    return system.parts(system.settings.but(mask_id=MASK, **settings))


def complete(prompt: Any, length: int, parts: Parts, net: Any = None, **options: Any) -> Result:
    events = generate(net or network(), [prompt], length, **parts.sampling, **options)
    return collect(events, [prompt], length)[0]


def autoregressive(prompt: Any, length: int, temperature: float = 0.0, **options: Any) -> Result:
    system = find("ar")
    return complete(prompt, length, system.parts(system.settings.but(temperature=temperature)), Unmasked(), **options)


def said(row: Tensor, masks: int, places: Tensor | None = None) -> Tensor:
    """Logits of a causal row with masks behind it that see it, and each other."""
    n = len(row)
    content = torch.cat((row, torch.full((masks,), MASK)))
    seen = torch.ones(n + masks, n + masks).tril().bool()
    seen[n:, n:] = True
    places = torch.arange(n + masks) if places is None else places
    out = network().head(network()(content[None], places[None], seen[None, None]))[0]
    return out.index_fill(1, torch.tensor([MASK]), -torch.inf)


def published(prompt: Tensor, length: int, size: int, trust: float) -> tuple[list[int], list[int]]:
    """The published decoder, a forward for every branch: tokens, and how many were final after each step."""
    row, drafts = prompt.tolist(), [MASK] * (size - 1)
    counts = []
    while len(row) < len(prompt) + length:
        verified, branches = [], []
        for r in range(1, size + 1):
            known = torch.tensor([*row, *drafts[: r - 1]])
            out = said(known, size)
            a, m = out[len(known) - 1], out[len(known) :]
            low = [x.nan_to_num(neginf=-1e30) for x in (a, m[0])]
            blend = a if trust == 1 else trust * low[0] + (1 - trust) * low[1]
            verified.append(int(blend.argmax()))
            branches.append(m.argmax(-1).tolist())
        accepted = 1
        while accepted < size and drafts[accepted - 1] == verified[accepted - 1]:
            accepted += 1
        row += verified[:accepted]
        counts.append(accepted)
        drafts = branches[accepted - 1][1:]
    return row[len(prompt) : len(prompt) + length], counts


def test_the_defaults() -> None:
    parts = tidar()
    objective: Any = parts.objective
    assert parts.layout == Blocks(1) and parts.pattern == Branching() and parts.lookahead == Branches(8)
    assert objective.layout == Blocks(8) and objective.masking == Everything() and objective.next_token == 1.0


def test_the_training_mask() -> None:
    """Four tokens, blocks of 2, the noisy copy first: masks see their own block and the clean tokens before it."""
    pattern: Any = tidar().objective.pattern  # type: ignore[attr-defined]
    layout = Blocks(2)
    row = zip(layout.tags(4, copy=1), layout.tags(4), strict=True)
    matrix = dense(pattern, Tags(*(torch.cat(pair) for pair in row))).int().tolist()
    expected = "11000000 11000000 00111100 00111100 00001000 00001100 00001110 00001111"
    assert " ".join("".join(map(str, line)) for line in matrix) == expected


def test_the_decoding_mask_and_places() -> None:
    """K = 2 behind two tokens, columns [d1 d2 | b1 b1 | b2 b2 | prefix 2]; and the places of K = 3 behind three."""
    zero = torch.zeros(2, dtype=torch.long)
    branches = Branches(2).tags(torch.tensor([3]))
    row = Tags(torch.tensor([2, 3]), zero, zero, zero)
    prefix = Tags(torch.tensor([0, 1]), zero, zero, zero)
    fed = [torch.cat((a, b[0])) for a, b in zip(row, branches, strict=True)]
    keys = Tags(*(torch.cat((a, b)) for a, b in zip(fed, prefix, strict=True)))
    matrix = dense(Branching(), Tags(*fed), keys).int().tolist()
    expected = "10000011 11000011 10110011 10110011 11001111 11001111"
    assert " ".join("".join(map(str, line)) for line in matrix) == expected
    assert Branches(3).tags(torch.tensor([4])).index.tolist() == [[4, 5, 6, 5, 6, 7, 6, 7, 8]]
    assert Branches(3).count == 9


def test_the_loss_is_the_mean_of_both_halves() -> None:
    content = tokens(16).view(2, 8)
    index = torch.arange(8).repeat(2, 1)
    data = Batch(content, torch.zeros_like(content), index, [0, 1])
    following = drafting = 0.0
    for r in range(2):
        clean = (
            network()
            .head(network()(content[r][None], index[:1], torch.ones(8, 8).tril().bool()[None, None]))[0]
            .log_softmax(-1)
        )
        following -= float(clean[:-1].gather(1, content[r, 1:, None]).sum())
        for first in (0, 4):
            seen = torch.ones(first + 4, first + 4).tril().bool()
            seen[first:, first:] = True
            row = torch.cat((content[r, :first], torch.full((4,), MASK)))
            out = network().head(network()(row[None], torch.arange(first + 4)[None], seen[None, None]))[0]
            drafting -= float(out.log_softmax(-1)[first:].gather(1, content[r, first : first + 4, None]).sum())
    for weight in (1.0, 0.5):
        objective: Any = replace(tidar(block_size=4, next_token=weight).objective, anywhere=False)  # type: ignore[type-var]
        loss = objective(network(), data, 0, 0)
        assert loss.total.item() == pytest.approx((drafting + weight * following) / (1 + weight), rel=1e-4)
        assert loss.parts["learnt"] == loss.count == 16


def test_blocks_of_masks_begin_anywhere() -> None:
    """Branches begin behind any token, so every beginning is learnt: the loss by hand at the places that were drawn."""
    objective: Any = tidar(block_size=4).objective
    content = tokens(24).view(2, 12)
    index = torch.arange(12).repeat(2, 1)
    data = Batch(content, torch.zeros_like(content), index, [5, 6])
    starts = set()
    for step in range(12):
        unit = objective._unit(data, 0, step)
        assert ((unit.diff(dim=1) == 0) | (unit.diff(dim=1) == 1)).all() and unit[:, 0].eq(0).all()
        drafting = following = 0.0
        for r in range(2):
            plain = (
                network()
                .head(network()(content[r][None], index[:1], torch.ones(12, 12).tril().bool()[None, None]))[0]
                .log_softmax(-1)
            )
            following -= float(plain[:-1].gather(1, content[r, 1:, None]).sum())
            starts.add(int((unit[r] == 0).sum()))
            for u in unit[r].unique().tolist():
                block = (unit[r] == u).nonzero().flatten()
                first, n = int(block[0]), int(block[-1]) + 1
                seen = torch.ones(n, n).tril().bool()
                seen[first:, first:] = True
                row = torch.cat((content[r, :first], torch.full((len(block),), MASK)))
                out = network().head(network()(row[None], torch.arange(n)[None], seen[None, None]))[0].log_softmax(-1)
                drafting -= float(out[first:].gather(1, content[r, block, None]).sum())
        total = objective(network(), data, 0, step).total.item()
        assert total == pytest.approx((drafting + following) / 2, rel=1e-4)
    assert starts == {1, 2, 3, 4}


@pytest.mark.parametrize("trust", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("given", [1, 6])
def test_the_published_decoder(given: int, size: int, trust: float) -> None:
    prompt, length = tokens(given, seed=given), 15
    expected, counts = published(prompt, length, size, trust)
    row = complete(prompt, length, tidar(block_size=size, trust=trust))
    assert row.content.tolist() == expected
    assert row.forwards == len(counts)
    left = [length - sum(counts[:i]) for i in range(len(counts))]  # the newest token, drafts that fit, and the masks
    assert row.slots == len(prompt) - 1 + sum(1 + min(size - 1, more) + size * size for more in left)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_the_text_is_that_of_autoregression(size: int, temperature: float) -> None:
    """Token for token, at any temperature with the same seed: drafts and verification share the number of a cell."""
    prompt = tokens(4)
    expected = autoregressive(prompt, 24, temperature, seed=5)
    row = complete(prompt, 24, tidar(block_size=size, temperature=temperature), seed=5, details=True)
    assert row.content.tolist() == expected.content.tolist()
    assert len(set(row.content.tolist())) > 3


class Oracle(nn.Module):
    """Counts upwards: what follows a token, and what is drafted, are ``right`` or wrong by one."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.config = TransformerConfig(vocab_size=VOCABULARY, **SHAPE)
        self.weight, self.right = nn.Parameter(torch.zeros(1)), right

    def forward(self, content: Tensor, positions: Tensor, mask: Tensor, memory: Any, slots: Tensor) -> Tensor:
        drafted = positions + (0 if self.right else 1)
        return torch.where(content == MASK, drafted, content + 1)[..., None].float()

    def head(self, hidden: Tensor) -> Tensor:
        return nn.functional.one_hot(hidden[..., 0].long() % MASK, VOCABULARY).float() * 9


@pytest.mark.parametrize("size", [1, 2, 4])
def test_right_drafts_are_all_accepted_and_wrong_ones_none(size: int) -> None:
    """The first step has no drafts; then K tokens a step, or one."""
    for right in (True, False):
        prompt, length = torch.arange(3), 1 + 4 * size
        row = complete(prompt, length, tidar(block_size=size), Oracle(right))
        assert row.content.tolist() == list(range(3, 3 + length))
        assert row.forwards == (5 if right else length)


def test_the_cache_is_that_of_the_committed_text(memories: list[ExactKV]) -> None:
    """After every step: all final tokens but the newest, as a fresh prefill has them."""
    prompt, parts = tokens(5), tidar(block_size=3)
    row = torch.cat((prompt, complete(prompt, 12, parts).content))
    memories.clear()
    for event in generate(network(), [prompt], 12, **parts.sampling):
        length = memories[0].lengths[0]
        assert length >= event.start
        fresh = ExactKV(2, 1, 2, 8, 20)
        fresh.open([length])
        mask = torch.ones(length, length).tril().bool()[None, None]
        network()(row[None, :length], torch.arange(length)[None], mask, fresh, torch.arange(length)[None])
        kept, expected = (memory.storage[:, :, 0, :, :length] for memory in (memories[0], fresh))
        torch.testing.assert_close(kept, expected, rtol=0, atol=1e-5)


def test_training_masks_are_the_first_draft_behind_a_prompt_of_whole_blocks(predictions: list[Tensor]) -> None:
    from .conftest import text_network

    parts, size = tidar(block_size=4), 4
    objective: Any = parts.objective
    clean = tokens(12)
    trained, _ = two_copies(text_network(), objective.layout, objective.pattern, torch.full((12,), MASK), clean)
    for first in (4, 8):
        predictions.clear()
        next(generate(text_network(), [clean[:first]], 1, **parts.sampling))
        drafted = predictions[0][0, size : 2 * size]
        torch.testing.assert_close(
            drafted, trained[first : first + size], rtol=0, atol=1e-5 * float(trained.abs().max())
        )


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_row_in_a_batch_is_the_row_alone(temperature: float) -> None:
    parts = tidar(block_size=3, temperature=temperature)
    same_alone_and_in_a_batch(network(), parts, [1, 2, 6, 11], [9, 16, 2, 20], stop=(4,))


def test_with_and_without_memory() -> None:
    parts = tidar(block_size=3)
    prompts, lengths = [tokens(2), tokens(7)], [14, 9]
    rows = []
    for memory in ("exact", "none"):
        events = generate(network(), prompts, lengths, **parts.sampling | {"memory": memory})
        rows.append([row.content.tolist() for row in collect(events, prompts, lengths)])
    assert rows[0] == rows[1]


def test_what_cannot_be() -> None:
    with pytest.raises(SettingError, match="next-token generation cannot infill"):
        list(generate(network(), [[1, OPEN, 2]], 0, **tidar().sampling))
    with pytest.raises(SettingError, match="the prompt is empty"):
        list(generate(network(), [[]], 4, **tidar().sampling))
    with pytest.raises(SettingError, match="trust"):
        tidar(trust=2.0)
