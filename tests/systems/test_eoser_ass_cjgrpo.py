"""What must hold exactly of the decoding of arXiv:2509.23924: steps that double, end tokens damped early."""

from __future__ import annotations

from functools import cache
from math import floor, log2
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interlace.checkpoints import Checkpoint, save
from interlace.errors import SettingError
from interlace.generation import Result, collect, generate
from interlace.grid import Levels, walk
from interlace.model import load
from interlace.nn import Transformer, TransformerConfig
from interlace.paces import Doubling
from interlace.reveal import Damped, Doubled, Evenly, Proposal, Static
from interlace.schedules import BehindPrompt, Successive
from interlace.systems import Parts, find

from .conftest import MASK, SHAPE, VOCABULARY, fill, same_alone_and_in_a_batch, tokens

EOS = 26
"""The favourite of the random network below, so that damping has something to do."""


@cache
def network() -> Transformer:
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, tied=False, qk_norm=False, **SHAPE)))


def parts_of(**changes: Any) -> Parts:
    system = find("eoser-ass-cjgrpo")
    return system.parts(system.settings.but(**{"mask_id": MASK, "eos_ids": (EOS,)} | changes))


def complete(prompt: Any, length: int, parts: Parts, **options: Any) -> Result:
    return collect(generate(network(), [prompt], length, **parts.sampling, **options), [prompt], length)[0]


def quotas(schedule: Successive, size: int) -> list[list[int]]:
    """The tokens of every step, block by block, when every step fixes its quota."""
    pace, left, found = Doubling(), size, []
    for block, steps in zip(schedule.sizes, schedule.steps, strict=True):
        open, inside = block, []
        for _ in range(steps):
            step = sum(map(len, found)) + len(inside)
            inside.append(int(pace(torch.tensor([open]), size, torch.tensor([step]), sum(schedule.steps))))
            open -= inside[-1]
        assert open == 0
        left -= block
        found.append(inside)
    assert left == 0
    return found


@pytest.mark.parametrize(
    ("size", "blocks", "sizes", "expected"),
    [
        (8, 1, [8], [[1, 2, 5]]),
        (16, 1, [16], [[1, 2, 4, 9]]),
        (16, 3, [3, 4, 9], [[1, 2], [4], [9]]),
        (128, 4, [15, 16, 32, 65], [[1, 2, 4, 8], [16], [32], [65]]),
        (256, 1, [256], [[1, 2, 4, 8, 16, 32, 64, 129]]),
        (20, 1, [20], [[1, 2, 4, 13]]),
        (2, 1, [2], [[2]]),
    ],
)
def test_the_lists_of_the_paper(size: int, blocks: int, sizes: list[int], expected: list[list[int]]) -> None:
    schedule = Successive.growing(size, blocks)
    assert list(schedule.sizes) == sizes and quotas(schedule, size) == expected


@given(st.integers(2, 600), st.data())
def test_doubling_steps_reveal_the_whole_answer(size: int, data: st.DataObject) -> None:
    steps = floor(log2(size))
    blocks = data.draw(st.integers(1, steps))
    schedule = Successive.growing(size, blocks)
    found = quotas(schedule, size)
    flat = [k for inside in found for k in inside]
    assert len(flat) == steps and sum(flat) == size and flat[:-1] == [2**s for s in range(steps - 1)]
    if blocks > 1:  # peeled from the right
        assert schedule.sizes[-1] == 2 ** (steps - 1) + 1 + (size - 2**steps)


@pytest.mark.parametrize(("size", "blocks"), [(16, 5), (16, 0), (2, 2)])
def test_more_blocks_than_steps_are_refused(size: int, blocks: int) -> None:
    with pytest.raises(SettingError, match="doubling steps, in 1 to"):
        Successive.growing(size, blocks)


def test_the_tables_of_gamma() -> None:
    def gammas(rule: Damped, of: int) -> list[float]:
        return rule.gamma(torch.arange(of), of).tolist()

    even = Damped(Static(), (EOS,), 0.4, 1.0, Evenly())
    growing = Damped(Static(), (EOS,), 0.01, 1.0, Doubled())
    assert gammas(even, 4) == pytest.approx([0.4, 0.6, 0.8, 1])
    assert gammas(even, 1) == [1.0]
    assert gammas(growing, 3) == pytest.approx([0.13375, 0.38125, 0.87625])
    expected = [0.017734, 0.033203, 0.064141, 0.126016, 0.249766, 0.497266, 0.992266]
    assert gammas(growing, 7) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("least", "revealed"), [(0.4, [True, False]), (1.0, [False, True])])
def test_damping_one_step(least: float, revealed: list[bool]) -> None:
    open, one = torch.ones(1, 2, dtype=torch.bool), torch.tensor([1])
    drawn = SimpleNamespace(token=torch.tensor([1, EOS]), confidence=torch.tensor([0.5, 0.9]))
    proposal = Proposal(open, drawn, one, 0 * one, of=4)  # type: ignore[arg-type]
    assert Damped(Static(), (EOS,), least)(proposal).tolist() == [revealed]
    assert proposal.token.tolist() == [[1, EOS]] and proposal.confidence.tolist()[0] == pytest.approx([0.5, 0.9])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 20))
def test_one_block_is_that_of_llada(size: int, steps: int, clean: int, more: int) -> None:
    one, other = Successive((size,), (steps,)), BehindPrompt(size, steps)
    assert [m for _, m in walk(one, clean + more, clean)] == [m for _, m in walk(other, clean + more, clean)]


def test_the_table_of_the_docstring() -> None:
    moves = [(m.units, m.step[0], m.of) for _, m in walk(Successive((3, 2), (2, 1)), 7, 1)]
    assert moves == [((1, 2, 3), 0, 3), ((1, 2, 3), 1, 3), ((4, 5), 2, 3), ((6,), 0, 3), ((6,), 1, 3)]
    assert Successive((3, 2), (2, 1))(Levels.start(4, 4)) is None


def published(
    prompt: Tensor, length: int, blocks: list[int], steps: list[list[int]], gamma: list[float]
) -> tuple[list[int], int]:
    """The published sampler, greedy: one denoising step common to all strategies, block after block."""
    total, step = len(prompt) + length, 0
    row = torch.cat((prompt, torch.full((length,), MASK)))
    end = len(prompt)
    for size, counts in zip(blocks, steps, strict=True):
        end += size
        for count in counts:
            index = torch.arange(total)[None]
            logits = network().head(network()(row[None], index))[0]
            logits[:, MASK] = -torch.inf
            x0 = logits.argmax(-1)
            confidence = logits.softmax(-1)[torch.arange(total), x0]
            confidence = torch.where(x0 == EOS, gamma[step] * confidence, confidence)
            confidence[(row != MASK) | (torch.arange(total) >= end)] = -torch.inf
            chosen = confidence.topk(count).indices
            row[chosen] = x0[chosen]
            step += 1
    return row[len(prompt) :].tolist(), step


def even(size: int, steps: int) -> list[int]:
    return [size // steps + (s < size % steps) for s in range(steps)]


CASES: list[tuple[dict[str, Any], list[int], list[list[int]], Any]] = [
    # settings, sizes of the blocks, tokens of their steps, (least, most) of gamma or None
    ({"ass": False, "eoser": False, "steps": 16}, [16], [[1] * 16], None),
    ({"ass": False, "eoser": False, "steps": 6}, [16], [even(16, 6)], None),
    ({"ass": False, "eoser": False, "steps": 8, "blocks": 4}, [4] * 4, [[2, 2]] * 4, None),
    ({"ass": False, "steps": 8}, [16], [[2] * 8], (0.4, 1.0)),
    ({"ass": False, "steps": 8, "blocks": 2}, [8, 8], [[2] * 4] * 2, (0.4, 1.0)),
    ({"ass": False, "steps": 1}, [16], [[16]], (0.4, 1.0)),
    ({"ass": False, "steps": 5, "least": 0.01, "most": 0.9}, [16], [even(16, 5)], (0.01, 0.9)),
    ({"eoser": False}, [16], [[1, 2, 4, 9]], None),
    ({}, [16], [[1, 2, 4, 9]], (0.01, 1.0)),
    ({"blocks": 3}, [3, 4, 9], [[1, 2], [4], [9]], (0.01, 1.0)),
    ({"blocks": 4, "least": 0.2}, [1, 2, 4, 9], [[1], [2], [4], [9]], (0.2, 1.0)),
]


@pytest.mark.parametrize(("changes", "sizes", "steps", "damping"), CASES)
@pytest.mark.parametrize("given", [3, 8])
def test_the_published_sampler(given: int, changes: Any, sizes: Any, steps: Any, damping: Any) -> None:
    prompt, count = tokens(given, seed=given), sum(map(len, steps))
    gamma = [1.0] * count
    if damping is not None and changes.get("ass", True):
        gamma = [damping[0] + (damping[1] - damping[0]) * (2 ** (s + 1) - 1) / 2**count for s in range(count)]
    elif damping is not None:
        gamma = [damping[0] + (damping[1] - damping[0]) * (s / (count - 1) if count > 1 else 1) for s in range(count)]
    expected = published(prompt, 16, sizes, steps, gamma)
    row = complete(prompt, 16, parts_of(block_size=16, **changes))
    assert (row.content.tolist(), row.forwards) == expected


def test_damping_changes_the_order() -> None:
    """The cases above would also agree if nothing were ever damped; here something is."""
    prompt = tokens(8, seed=8)
    plain, damped = (
        complete(prompt, 16, parts_of(block_size=16, ass=False, eoser=e), details=True) for e in (False, True)
    )
    assert plain.order is not None and damped.order is not None
    assert plain.content[plain.order.argmin()] == EOS != damped.content[damped.order.argmin()]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("ass", [False, True])
def test_without_damping_it_is_plain_decoding(ass: bool, temperature: float) -> None:
    prompt, both = tokens(6), {"block_size": 16, "ass": ass, "temperature": temperature}
    one = complete(prompt, 16, parts_of(**both, least=1.0), seed=3)
    other = complete(prompt, 16, parts_of(**both, eoser=False), seed=3)
    assert one.content.tolist() == other.content.tolist() and one.forwards == other.forwards


@pytest.mark.parametrize("changes", [{}, {"blocks": 3}, {"ass": False, "steps": 8}, {"ass": False, "blocks": 4}])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_in_a_batch_is_the_row_alone(temperature: float, changes: Any) -> None:
    parts = parts_of(block_size=16, temperature=temperature, **changes)
    same_alone_and_in_a_batch(network(), parts, [1, 4, 11], [9, 16, 32])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 5}, "steps is 5, but 16 tokens in doubling steps take 4"),
        ({"blocks": 5}, "in 1 to 4 blocks; blocks is 5"),
        ({"blocks": 2, "reveal": "ancestral"}, "run on through all; set blocks to 1"),
        ({"ass": False, "steps": 6, "blocks": 4}, "do not divide into 4 blocks"),
        ({"least": -0.1}, "least is -0.1; pass 0 or more"),
    ],
)
def test_bad_settings_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parts_of(block_size=16, **changes)


def test_the_checkpoint_names_its_end_tokens(tmp_path: Any) -> None:
    checkpoint = Checkpoint(network(), family="llada", stop_token_ids=(EOS,), mask_token_id=MASK)
    model = load(save(checkpoint, tmp_path / "model"), system="eoser-ass-cjgrpo", block_size=16)
    assert model.settings.eos_ids == (EOS,) and model.settings.rule().tokens == (EOS,)  # type: ignore[attr-defined]
