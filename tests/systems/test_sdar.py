"""What must hold exactly of SDAR (arXiv:2510.06303)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.patterns import BlockCausal, Causal, Tags, dense
from interlace.generation import OPEN, Result, collect, generate
from interlace.layouts import Blocks
from interlace.memory import ExactKV
from interlace.reveal import Dynamic
from interlace.systems import Parts, find

from .conftest import MASK, same_in_training_and_sampling, text_network, tokens, two_copies


def sdar(**settings: Any) -> Parts:
    system = find("sdar")
    return system.parts(system.settings.but(mask_id=MASK, **settings))


def complete(prompt: Any, length: int, parts: Parts, **options: Any) -> Result:
    return collect(generate(text_network(), [prompt], length, **parts.sampling, **options), [prompt], length)[0]


def rows(pattern: Any, *copies: Tags) -> str:
    row = Tags(*(torch.cat(tensors) for tensors in zip(*copies, strict=True)))
    return " ".join("".join(map(str, line)) for line in dense(pattern, row).int().tolist())


def test_the_defaults_are_the_published_ones() -> None:
    parts = sdar()
    assert parts.layout == Blocks(4) and parts.pattern == BlockCausal() and parts.memory == "exact"
    assert parts.schedule.steps == 4 and parts.process.reveal == Dynamic(0.9)  # type: ignore[attr-defined]
    assert parts.process.sampler.greedy and parts.process.eps == 1e-3  # type: ignore[attr-defined]
    assert parts.objective.levels == "document"  # type: ignore[attr-defined]
    assert sdar(block_size=8).schedule.steps == 8  # type: ignore[attr-defined]
    assert sdar(block_size=8, steps=3).schedule.steps == 3  # type: ignore[attr-defined]


def test_the_training_mask() -> None:
    """Four tokens in blocks of 2, the noisy copy first; a second document sees nothing of it."""
    parts = sdar(block_size=2)
    pattern: Any = parts.objective.pattern  # type: ignore[attr-defined]
    one = parts.layout.tags(4, copy=1), parts.layout.tags(4)
    expected = "11000000 11000000 00111100 00111100 00001100 00001100 00001111 00001111"
    assert rows(pattern, *one) == expected
    two = parts.layout.tags(2, document=1, copy=1), parts.layout.tags(2, document=1)
    assert rows(pattern, *one, *two) == " ".join(
        [line + "0000" for line in expected.split()] + ["0" * 8 + line for line in ("1100", "1100", "0011", "0011")]
    )


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("fuse", [True, False])
def test_training_and_sampling_see_the_same(size: int, fuse: bool, predictions: list[Tensor]) -> None:
    parts = sdar(block_size=size)
    same_in_training_and_sampling(parts, parts.layout, predictions, fuse=fuse)


def test_the_cache_holds_whole_clean_blocks(memories: list[ExactKV]) -> None:
    parts = sdar(reveal="static")
    seen = []
    for event in generate(text_network(), [tokens(6)], 10, **parts.sampling, drafts=True, fuse=False):
        seen.append((event.unit, memories[0].lengths[0]))
    assert seen == [(1, 4)] * 2 + [(2, 8)] * 4 + [(3, 12)] * 4


def test_blocks_of_one_are_causal_and_do_not_see_their_own_token() -> None:
    parts = sdar(block_size=1)
    pattern: Any = parts.objective.pattern  # type: ignore[attr-defined]
    tags = parts.layout.tags(8)
    assert torch.equal(dense(parts.pattern, tags), dense(Causal(), tags))
    assert torch.equal(dense(pattern, tags), dense(Causal(), tags))
    clean, noisy = tokens(8), torch.full((8,), MASK)
    before, _ = two_copies(text_network(), parts.layout, pattern, noisy, clean)
    changed = clean.clone()
    changed[4] = (changed[4] + 1) % MASK
    after, _ = two_copies(text_network(), parts.layout, pattern, noisy, changed)
    assert torch.equal(before[:5], after[:5])
    assert ((before - after).abs().amax(-1)[5:] > 1e-4).all()


@pytest.mark.parametrize("size", [2, 4, 8])
def test_static_takes_a_denoising_forward_per_token_and_dynamic_at_one_is_static(size: int) -> None:
    prompt = tokens(size)
    rows = [
        complete(prompt, 16, sdar(block_size=size, **rule), fuse=fuse)
        for rule in ({"reveal": "static"}, {"reveal": "dynamic", "threshold": 1.0})
        for fuse in (False, True)
    ]
    assert len({tuple(row.content.tolist()) for row in rows}) == 1
    blocks = 16 // size
    assert [row.forwards for row in rows] == [16 + blocks, 16] * 2  # the prompt's block and all but the last


def test_a_prompt_that_ends_inside_a_block() -> None:
    """Six tokens in blocks of 4: the first block decoded is [p4 p5 M M], at positions 4 to 7, in two static steps."""
    parts = sdar(reveal="static")
    prompt = tokens(6).tolist()
    first, second = list(generate(text_network(), [prompt], 2, **parts.sampling, drafts=True))
    assert first.start == 4 and first.content[:2].tolist() == prompt[4:]
    assert (first.content == OPEN).sum() == 1 and first.level == 0.25 and not first.clean
    assert second.clean and second.last and second.forwards == 2


def test_quotas_of_a_block() -> None:
    for size, steps, expected in ((4, 4, [1, 1, 1, 1]), (8, 3, [3, 3, 2]), (8, 5, [2, 2, 2, 1, 1])):
        parts = sdar(block_size=size, steps=steps, reveal="static")
        events = generate(text_network(), [[]], size, **parts.sampling, drafts=True)
        open = [size, *((event.content == OPEN).sum().item() for event in events)]
        assert [before - after for before, after in pairwise(open)] == expected
