"""What must hold exactly of Efficient-DLM (arXiv:2512.14067); its masks are tested in tests/masking."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.patterns import BlockCausal, Causal, Tags, TwoCopy, dense
from interlace.generation import OPEN, generate
from interlace.layouts import Blocks
from interlace.masking import Counted
from interlace.systems import Parts, find
from interlace.training.batch import Batch

from .conftest import MASK, text_network, tokens, two_copies


def efficient(**settings: Any) -> Parts:
    system = find("efficient-dlm")
    return system.parts(system.settings.but(mask_id=MASK, **settings))


def test_the_defaults_are_the_published_ones() -> None:
    parts = efficient()
    objective: Any = parts.objective
    assert parts.layout == Blocks(16) == objective.layout and parts.pattern == BlockCausal()
    assert objective.pattern == TwoCopy() and objective.levels == "unit" and objective.views == "one"
    assert objective.masking == Counted.half_life(0.1, 16) and objective.process.shift == 0
    assert efficient(half_life=math.inf).objective.masking == Counted(0.0)  # type: ignore[attr-defined]


def test_every_block_of_a_row_has_its_own_number_of_masks() -> None:
    objective: Any = efficient(block_size=4).objective
    content = tokens(4 * 50)[None].repeat(3, 1)
    index = torch.arange(200).repeat(3, 1)
    level, noise, _ = objective.draw(Batch(content, torch.zeros_like(index), index, [0, 1, 2]), 0, 0)
    masked = (objective.process.corrupt(content, level, noise) == MASK).view(3, 50, 4)
    counts = masked.sum(-1)
    assert torch.equal(counts.float() / 4, level.view(3, 50, 4)[..., 0])
    assert set(counts.flatten().tolist()) == {0, 1, 2, 3, 4}
    share = masked.float().mean((0, 1))
    assert share[0] < share[1] < share[2] < share[3]


@pytest.mark.parametrize("size", [1, 4, 8])
def test_training_and_sampling_see_the_same(size: int, predictions: list[Tensor]) -> None:
    parts = efficient(block_size=size)
    objective: Any = parts.objective
    clean = tokens(16)
    masked = torch.rand(16, generator=torch.Generator().manual_seed(3)) < 0.6
    masked[::size] = True
    noisy = clean.masked_fill(masked, MASK)
    trained, _ = two_copies(text_network(), parts.layout, objective.pattern, noisy, clean)
    for first in range(0, 16, size):
        block = slice(first, first + size)
        prompt = torch.cat((clean[:first], noisy[block].masked_fill(masked[block], OPEN)))
        predictions.clear()
        next(generate(text_network(), [prompt], 0, **parts.sampling, drafts=True))
        expected = trained[block][masked[block]]
        torch.testing.assert_close(predictions[0], expected, rtol=0, atol=1e-5 * float(trained.abs().max()))


def test_one_block_is_full_attention_and_blocks_of_one_leave_a_causal_clean_copy() -> None:
    n = 6
    pattern: Any = efficient(block_size=n).objective.pattern  # type: ignore[attr-defined]

    def matrix(size: int) -> Tensor:
        layout = Blocks(size)
        return dense(pattern, Tags(*(torch.cat(t) for t in zip(layout.tags(n, copy=1), layout.tags(n), strict=True))))

    assert matrix(n)[:n, :n].all() and not matrix(n)[:n, n:].any()
    tags = Blocks(1).tags(n)
    assert torch.equal(matrix(1)[n:, n:], dense(Causal(), tags)) and not matrix(1)[n:, :n].any()


def test_clean_context_does_not_see_earlier_noise() -> None:
    """A mask more in block 0 changes block 1 where the context is the noisy copy, and not where it is the clean one."""
    objective: Any = efficient(block_size=4).objective
    clean = tokens(8)
    noisy = clean.clone()
    noisy[5] = MASK
    more = noisy.clone()
    more[1] = MASK
    with_clean = [two_copies(text_network(), Blocks(4), objective.pattern, x, clean)[0] for x in (noisy, more)]
    assert torch.equal(with_clean[0][4:], with_clean[1][4:])
    with_noisy = [two_copies(text_network(), Blocks(4), BlockCausal(), x, clean)[0] for x in (noisy, more)]
    assert (with_noisy[0][4:] - with_noisy[1][4:]).abs().max() > 1e-3


def test_a_token_shift_changes_what_is_read_and_nothing_else() -> None:
    """The same masks, the same forward; the prediction of a token is that of the place before it."""
    straight: Any = efficient(block_size=4).objective
    shifted: Any = replace(straight, process=replace(straight.process, shift=1))
    clean = tokens(16)
    index = torch.arange(16)[None]
    data = Batch(clean[None], torch.zeros_like(index), index, [3])
    drawn, again = (objective.draw(data, 1, 2) for objective in (straight, shifted))
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    level, noise, _ = drawn
    noisy = straight.process.corrupt(clean[None], level, noise)[0]
    said, _ = two_copies(text_network(), straight.layout, straight.pattern, noisy, clean)
    for objective, shift in ((straight, 0), (shifted, 1)):
        at = [i for i in range(shift, 16) if noisy[i] == MASK]
        lost = []
        for i in at:
            read = said[i - shift]
            lost.append(float((read.logsumexp(-1) - read[clean[i]]) / objective.process.probability(level[0, i])))
        loss = objective(text_network(), data, 1, 2)
        assert loss.total.item() == pytest.approx(sum(lost), rel=1e-4) and loss.parts["learnt"] == len(at) > 3
