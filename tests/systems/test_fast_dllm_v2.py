"""What must hold exactly of Fast-dLLM v2 (arXiv:2509.26328)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.patterns import BlockCausal
from interlace.generation import OPEN, Result, collect, generate
from interlace.layouts import Blocks
from interlace.memory import ExactKV
from interlace.nn import Transformer, TransformerConfig
from interlace.reveal import Dynamic
from interlace.schedules import Seeded
from interlace.systems import Parts, find

from .conftest import MASK, SHAPE, VOCABULARY, fill, same_alone_and_in_a_batch, text_network, tokens, two_copies


@cache
def network() -> Transformer:
    """Untied, so that its greedy texts vary."""
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, tied=False, **SHAPE)))


def fast(**settings: Any) -> Parts:
    system = find("fast-dllm-v2")
    return system.parts(system.settings.but(mask_id=MASK, **settings))


def complete(prompt: Any, length: int, parts: Parts, **options: Any) -> Result:
    return collect(generate(network(), [prompt], length, **parts.sampling, **options), [prompt], length)[0]


def logits(row: Tensor, size: int) -> Tensor:
    """Of every token of a row under the block-causal mask, the mask token never a candidate."""
    n = len(row)
    mask = torch.tensor([[j // size <= i // size for j in range(n)] for i in range(n)])[None, None]
    said = network().head(network()(row[None], torch.arange(n)[None], mask))[0]
    return said.index_fill(1, torch.tensor([MASK]), -torch.inf)


def step(x: Tensor, said: Tensor, open: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Tokens, and log-probabilities of those fixed now: what is surer than the threshold, else the surest.

    ``said`` [n, vocab] belongs to the tokens of x.
    """
    confidence, token = said.softmax(-1).max(-1)
    fixed = open & (confidence > threshold)
    fixed[confidence.masked_fill(~open, -1).argmax()] = True
    return torch.where(fixed, token, x), confidence.log() * fixed


def published(
    prompt: Tensor, length: int, block: int, sub: int, threshold: float, cached: bool
) -> tuple[Tensor, Tensor, int, int]:
    """The published sampler, written out, without the sub-blocks behind the end.

    Tokens, their log-probabilities, forwards, and the token slots of the denoising forwards.
    """
    total = -(-(len(prompt) + length) // block) * block
    row = torch.cat((prompt, torch.full((total - len(prompt),), MASK)))
    log_prob = torch.zeros(total)
    forwards = slots = 0
    for first in range(len(prompt) // block * block, total, block):
        here = slice(first, first + block)
        if row[first] == MASK:
            said = logits(row[:first], block)[-1].log_softmax(-1)
            log_prob[first], row[first] = said.max(-1)
            forwards += 1
        past = ExactKV(2, 1, 2, 8, total)
        if first:
            past.open([first])
            mask = torch.tensor([[j // block <= i // block for j in range(first)] for i in range(first)])[None, None]
            network()(row[None, :first], torch.arange(first)[None], mask, past, torch.arange(first)[None])
            past.commit([first])
        held = False
        for begin in range(first, min(first + block, len(prompt) + length), sub):
            unit = slice(begin, begin + sub)
            while (row[unit] == MASK).any():
                partly = cached and held and row[begin] != MASK
                fed = unit if partly else here
                held = True
                past.open([first + block])
                index = torch.arange(fed.start, fed.stop)[None]
                hidden = network()(row[None, fed], index, None, past, index)
                said = network().head(hidden)[0].index_fill(1, torch.tensor([MASK]), -torch.inf)
                said = torch.cat((said[:1], said[:-1]))[unit.start - fed.start : unit.stop - fed.start]
                row[unit], more = step(row[unit], said, row[unit] == MASK, threshold)
                log_prob[unit] += more
                forwards += 1
                slots += fed.stop - fed.start
    new = slice(len(prompt), len(prompt) + length)
    return row[new], log_prob[new], forwards, slots


def test_the_defaults_are_the_published_ones() -> None:
    parts = fast()
    assert parts.layout == Blocks(8, per=4) and parts.pattern == BlockCausal(4) and parts.memory == "exact"
    assert parts.schedule == Seeded(8, 4) and parts.process.reveal == Dynamic(0.9)  # type: ignore[attr-defined]
    objective: Any = parts.objective
    assert objective.layout == Blocks(32) and objective.levels == "unit" and objective.views == "complementary"
    assert objective.process.shift == 1 and not objective.process.weighted
    assert fast(block_size=4).layout == Blocks(4) and fast(sub_block_cache=True).memory == "block"


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(("block", "sub"), [(4, 4), (8, 4), (8, 2), (6, 3), (1, 1), (5, 1)])
@pytest.mark.parametrize("given", [1, 5, 8, 11])
@pytest.mark.parametrize("threshold", [1.0, 0.2, 0.05])
def test_the_published_sampler(threshold: float, given: int, block: int, sub: int, cache: bool) -> None:
    parts = fast(block_size=block, sub_block_size=sub, threshold=threshold, sub_block_cache=cache)
    prompt, length = tokens(given, seed=given), 17
    expected, log_prob, forwards, _ = published(prompt, length, block, sub, threshold, cache)
    row = complete(prompt, length, parts, details=True)
    assert row.content.tolist() == expected.tolist()
    assert row.forwards == forwards
    torch.testing.assert_close(row.log_prob, log_prob, rtol=1e-4, atol=1e-4)


def test_the_sub_block_cache_spares_slots_and_is_not_exact() -> None:
    prompt, settings = tokens(8), {"block_size": 8, "sub_block_size": 2, "threshold": 1.0}
    cached, exact = (
        complete(prompt, 32, fast(**settings, sub_block_cache=cache), details=True) for cache in (True, False)
    )
    assert cached.forwards == exact.forwards and cached.slots < 0.9 * exact.slots
    assert cached.log_prob is not None and exact.log_prob is not None and len(set(exact.content.tolist())) > 8
    assert (cached.log_prob - exact.log_prob).abs().max() > 0.01
    # a sub-block that is the block has nothing beside it that could be stale
    same = [complete(prompt, 32, fast(block_size=8, sub_block_size=8, sub_block_cache=c)) for c in (True, False)]
    assert same[0].content.tolist() == same[1].content.tolist() and same[0].slots == same[1].slots


@pytest.mark.parametrize("cache", [False, True])
def test_token_slots_are_those_of_the_published_sampler(cache: bool) -> None:
    """A block is fed once more, clean, by the forward that gives the next block its first token."""
    prompt, block = tokens(8), 8
    *_, forwards, slots = published(prompt, 32, block, 2, 1.0, cache)
    row = complete(prompt, 32, fast(block_size=block, sub_block_size=2, threshold=1.0, sub_block_cache=cache))
    assert row.forwards == forwards == 32
    assert row.slots == slots + len(prompt) + 3 * block


@pytest.mark.parametrize("given", [4, 5, 6, 7])
def test_one_token_a_step_takes_a_forward_for_every_unknown_token(given: int) -> None:
    """k known tokens of D: D - k denoising forwards, and the one before them when none is known."""
    row = complete(tokens(given), 8 - given + 8, fast(block_size=4, threshold=1.0))
    assert row.forwards == (8 - given) + 8


def test_shifted_reading() -> None:
    """[a M M b]: slot 1 is read at slot 0, slot 2 at slot 1, which is a mask."""
    first, second = 3, 7
    row = torch.tensor([first, MASK, MASK, second])
    said = logits(row, 4)
    parts = fast(block_size=4, threshold=0.0)
    (event,) = generate(network(), [[first, OPEN, OPEN, second]], 0, **parts.sampling)
    assert event.content.tolist() == [first, int(said[0].argmax()), int(said[1].argmax()), second]


@pytest.mark.parametrize("size", [2, 4, 8])
def test_training_and_sampling_see_the_same(size: int, predictions: list[Tensor]) -> None:
    """Noisy logits of a block, all but those read before it = those of the block against the cache of clean ones."""
    parts = fast(block_size=size)
    clean = tokens(16)
    masked = torch.rand(16, generator=torch.Generator().manual_seed(3)) < 0.6
    masked[::size] = False
    masked[1::size] = True
    noisy = clean.masked_fill(masked, MASK)
    objective: Any = parts.objective
    trained, _ = two_copies(text_network(), objective.layout, objective.pattern, noisy, clean)
    for first in range(0, 16, size):
        block = slice(first, first + size)
        prompt = torch.cat((clean[:first], noisy[block].masked_fill(masked[block], OPEN)))
        predictions.clear()
        next(generate(text_network(), [prompt], 0, **parts.sampling, drafts=True))
        wanted = masked[block].nonzero().flatten() + first - 1
        torch.testing.assert_close(predictions[0], trained[wanted], rtol=0, atol=1e-5 * float(trained.abs().max()))


def test_the_first_token_of_a_block_is_learnt_from_the_noisy_block_before() -> None:
    """It equals the clean one only if the block before it has no mask: a softer input than that of sampling."""
    parts = fast(block_size=4)
    objective: Any = parts.objective
    clean = tokens(8)
    for masks, same in (([], True), ([1], False)):
        noisy = clean.clone()
        noisy[[*masks, 4, 5]] = MASK
        trained, past = two_copies(text_network(), objective.layout, objective.pattern, noisy, clean)
        assert bool((trained[3] - past[3]).abs().max() < 1e-5) == same


def test_blocks_of_one_are_greedy_autoregression() -> None:
    ar = find("ar")
    plain = complete(tokens(5), 20, ar.parts(ar.settings))
    parts = fast(block_size=1)
    assert all(event.clean for event in generate(network(), [tokens(5)], 20, **parts.sampling))
    row = complete(tokens(5), 20, parts)
    kept = plain.content if MASK not in plain.content.tolist() else plain.content[: plain.content.tolist().index(MASK)]
    assert row.content[: len(kept)].tolist() == kept.tolist() and row.forwards == 20 and row.slots == 5 + 19


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_row_in_a_batch_is_the_row_alone(temperature: float, cache: bool) -> None:
    parts = fast(block_size=8, sub_block_size=4, threshold=0.1, temperature=temperature, sub_block_cache=cache)
    same_alone_and_in_a_batch(network(), parts, [1, 8, 11, 16], [9, 16, 5, 20], stop=(4,))


@pytest.mark.parametrize("fuse", [True, False])
def test_with_and_without_memory(fuse: bool) -> None:
    for given in (1, 6, 8):
        parts = fast(block_size=4, sub_block_size=2, threshold=0.1)
        rows = [
            complete(tokens(given), 14, parts, fuse=fuse),
            collect(
                generate(network(), [tokens(given)], 14, **parts.sampling | {"memory": "none"}),
                [tokens(given)],
                14,
            )[0],
        ]
        assert rows[0].content.tolist() == rows[1].content.tolist()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(("block", "sub"), [(4, 4), (8, 4), (8, 2)])
@pytest.mark.parametrize("given", [1, 6, 8])
def test_chance_ends_and_is_the_same_with_and_without_memory(given: int, block: int, sub: int, steps: int) -> None:
    """Ancestral: a move may fix nothing, the blind one that begins a block too."""
    parts = fast(block_size=block, sub_block_size=sub, steps=steps, reveal="ancestral", temperature=0.8)
    prompt = tokens(given, seed=given)
    for seed in range(4):
        rows = [
            complete(prompt, 14, replace(parts, memory=memory), fuse=fuse, seed=seed, details=True)
            for memory, fuse in (("exact", True), ("exact", False), ("none", True))
        ]
        assert all(len(row.content) == 14 and MASK not in row.content.tolist() for row in rows)
        for row in rows[1:]:
            assert row.content.tolist() == rows[0].content.tolist()
            assert row.log_prob is not None and rows[0].log_prob is not None
            torch.testing.assert_close(row.log_prob, rows[0].log_prob, rtol=0, atol=1e-4)
        assert rows[0].forwards <= 2 * steps * -(-(given + 14) // sub)
