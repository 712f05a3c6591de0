"""Masks in blocks that begin where the prompt ends, whole blocks attending both ways and the past causally.

No published system's file, but one that the guide invites to write: ``AbsorbingMask`` in DiffusionGemma's layout.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.engine import Engine, Request
from interlace.generation import Event, Result, collect, generate
from interlace.layouts import Blocks
from interlace.memory import ExactKV
from interlace.nn import Transformer, TransformerConfig
from interlace.processes import AbsorbingMask
from interlace.reveal import Static
from interlace.schedules import Successive
from interlace.systems import Parts, find
from interlace.systems.diffusion_gemma import DiffusionGemmaSettings
from interlace.systems.diffusion_gemma import parts as of_noise

from ..engine.tiny import model
from .conftest import MASK, SHAPE, VOCABULARY, fill, same_in_training_and_sampling, tokens


@cache
def network() -> Transformer:
    """Untied, so that its greedy texts vary."""
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, tied=False, **SHAPE)))


def of_masks(settings: DiffusionGemmaSettings) -> Parts:
    parts = of_noise(settings)
    process = AbsorbingMask(settings.mask_id, Static(), settings.sampler())
    return replace(parts, process=process, objective=replace(parts.objective, process=process))  # type: ignore[type-var]


def parts_of(size: int, **settings: Any) -> Parts:
    return of_masks(DiffusionGemmaSettings(block_size=size, mask_id=MASK, **settings))


def complete(prompt: Any, length: int, parts: Parts, **options: Any) -> Result:
    given = parts.sampling | options
    return collect(generate(network(), [prompt], length, **given), [prompt], length)[0]


@pytest.mark.parametrize("size", [1, 4, 8])
@pytest.mark.parametrize("fuse", [True, False])
def test_training_and_sampling_see_the_same(size: int, fuse: bool, predictions: list[Tensor]) -> None:
    same_in_training_and_sampling(parts_of(size), Blocks(size), predictions, fuse=fuse)


def plain(prompt: Tensor, length: int, size: int) -> tuple[list[int], Tensor]:
    """One token after the other, the surest first, by a dense mask and without a cache."""
    row, log_prob = torch.cat((prompt, torch.full((length,), MASK))), torch.zeros(len(prompt) + length)
    for first in range(len(prompt), len(row), size):
        place, shown = torch.arange(first + size), row[: first + size]
        mask = (place[None, :] <= place[:, None]) | (place[:, None] >= first)
        while (shown == MASK).any():
            said = network().head(network()(shown[None], place[None], mask[None, None]))[0]
            said = said.index_fill(1, torch.tensor([MASK]), -torch.inf).log_softmax(-1)
            best = said.max(-1)
            where = int(best.values.masked_fill(shown != MASK, -torch.inf).argmax())
            shown[where], log_prob[where] = best.indices[where], best.values[where]
    return row[len(prompt) :].tolist(), log_prob[len(prompt) :]


@pytest.mark.parametrize("given", [3, 8])
def test_a_block_begins_where_the_prompt_ends_and_sees_itself_whole(given: int) -> None:
    prompt, parts = tokens(given, seed=given), parts_of(4)
    expected, log_prob = plain(prompt, 12, 4)
    for options in ({}, {"memory": "none"}, {"fuse": False}, {"schedule": Successive((4,), (4,))}):
        row = complete(prompt, 12, parts, **options, details=True)
        assert row.content.tolist() == expected
        torch.testing.assert_close(row.log_prob, log_prob, rtol=0, atol=1e-4)


def test_the_cache_takes_whole_blocks_and_reads_them_causally(memories: list[ExactKV]) -> None:
    prompt, parts = tokens(5), parts_of(4)
    row = torch.cat((prompt, complete(prompt, 12, parts).content))
    memories.clear()
    lengths = []
    for event in generate(network(), [prompt], 12, **parts.sampling):
        lengths.append(memories[0].lengths[0])
        assert event.start >= lengths[-1]
    assert sorted(set(lengths)) == [5, 9, 13]
    fresh, index = ExactKV(2, 1, 2, 8, 20), torch.arange(13)
    fresh.open([13])
    network()(row[None, :13], index[None], torch.ones(13, 13).tril().bool()[None, None], fresh, index[None])
    kept, expected = (memory.storage[:, :, 0, :, :13] for memory in (memories[0], fresh))
    torch.testing.assert_close(kept, expected, rtol=0, atol=1e-5)


def test_a_row_in_a_batch_and_in_an_engine_is_the_row_alone() -> None:
    made = model("diffusion-gemma", block_size=4)
    made = replace(made, system=replace(find("diffusion-gemma"), parts=of_masks))
    prompts, lengths = [(5 + tokens(n, seed=n) % 18).tolist() for n in (1, 4, 11)], [9, 16, 6]
    batch = made.complete_all(prompts, lengths, stop=(), details=True)
    engine, found = Engine(made, slots=80, page=4, chunk=5), {}
    for number in map(engine.add, [Request(tuple(p), n, stop=()) for p, n in zip(prompts, lengths, strict=True)]):
        found[number] = dict[int, int]()
    while engine.busy:
        for event in engine.step():
            assert isinstance(event, Event)
            found[event.row] |= dict(enumerate(event.content.tolist(), event.start))
    for prompt, length, row, said in zip(prompts, lengths, batch, found.values(), strict=True):
        alone = made.complete(prompt, length, stop=(), details=True)
        assert row.content.tolist() == alone.content.tolist() == [said[at] for at in sorted(said)]
        assert row.forwards == alone.forwards and len(said) == length
