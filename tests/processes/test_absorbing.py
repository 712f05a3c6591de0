"""Absorbing mask: the corruption, the weight 1/p of the loss, and a step of sampling."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from interlace.processes import AbsorbingMask
from interlace.processes.protocol import Advanced, Turn
from interlace.reveal import Dynamic, EntropyBounded, Static
from interlace.sampling import Sampler

MASK = 5


def no_draw(kind: str, *shape: int) -> Tensor:
    raise AssertionError("greedy decoding draws nothing")


def advance(process: AbsorbingMask, x: list[list[int]], prediction: Tensor, step: int = 0, of: int = 4) -> Advanced:
    return process.advance(torch.tensor(x), prediction, Turn(torch.full((len(x),), step), of, no_draw))


def test_corruption_by_hand() -> None:
    process = AbsorbingMask(MASK)
    clean, noise = torch.tensor([[1, 2, 3]]), torch.tensor([[0.5004, 0.5006, 0.0]])
    assert process.corrupt(clean, torch.full((1, 3), 0.5), noise).tolist() == [[MASK, 2, MASK]]  # p = 0.5005
    assert process.corrupt(clean, torch.zeros(1, 3), noise + 0.0011).tolist() == [[1, 2, 3]]  # p = eps = 0.001
    assert process.corrupt(clean, torch.ones(1, 3), torch.full((1, 3), 0.9999)).tolist() == [[MASK] * 3]


def test_the_example_of_the_loss() -> None:
    """Four label tokens, p = 0.5, two of them masked with a cross-entropy of 1: (1/0.5 + 1/0.5) / 4 = 1."""
    process = AbsorbingMask(MASK, eps=0.0)
    one_nat = torch.tensor([-1.0, math.log(1 - math.exp(-1))])
    losses = process.loss(one_nat.repeat(2, 1), torch.zeros(2, dtype=torch.long), torch.tensor([MASK, MASK]),
                          torch.full((2,), 0.5))  # fmt: skip
    torch.testing.assert_close(losses.sum() / 4, torch.tensor(1.0))


def test_the_expected_loss_is_the_cross_entropy() -> None:
    """E_t,u [mask / p * CE] = CE, so that units of one token give the likelihood of an autoregressive chain."""
    process = AbsorbingMask(MASK, eps=1e-2)
    level = (torch.arange(100) + 0.5) / 100
    noise = (torch.arange(10_000) + 0.5) / 10_000
    noisy = process.corrupt(torch.zeros(100, 10_000, dtype=torch.long), level[:, None], noise[None])
    masked = process.learns(noisy, torch.zeros_like(noisy))
    at = level[:, None].expand_as(noisy)[masked]
    logits = torch.tensor([0.3, -0.7]).expand(len(at), -1)
    losses = process.loss(logits, torch.zeros(len(at), dtype=torch.long), noisy[masked], at)
    expected = math.log(1 + math.exp(-1.0))
    assert losses.sum().item() / noisy.numel() == pytest.approx(expected, rel=1e-3)


def test_a_mask_that_was_there_is_not_learnt() -> None:
    clean, noisy = torch.tensor([[1, MASK, 2]]), torch.tensor([[MASK, MASK, 2]])
    assert AbsorbingMask(MASK).learns(noisy, clean).tolist() == [[True, False, False]]


def test_nothing_is_known_at_first() -> None:
    process = AbsorbingMask(MASK)
    assert process.prior(no_draw, 2, 3).tolist() == [[MASK] * 3] * 2
    x = torch.tensor([[MASK, 1, MASK, MASK], [1, 1, 1, 1]])
    assert process.level(x).tolist() == [0.75, 0.0]
    assert process.open(x).tolist() == [[True, False, True, True], [False] * 4]


def test_a_step_fixes_the_most_confident_candidate() -> None:
    logits = torch.tensor([[0.0, 2.0, 0, 0, 0, 9.0], [0.0, 0, 0, 3.0, 0, 9.0], [1.0, 0, 0, 0, 0, 9.0]])
    after = advance(AbsorbingMask(MASK, Static()), [[4, MASK, MASK, MASK]], logits)
    assert after.x.tolist() == [[4, MASK, 3, MASK]]  # never the mask itself, likely as it is
    assert AbsorbingMask(MASK).level(after.x).tolist() == [0.5]
    assert after.log_prob is not None
    assert after.log_prob[0, 2].item() == pytest.approx(3 - math.log(math.exp(3) + 4))
    assert after.log_prob[0, [0, 1, 3]].tolist() == [0, 0, 0]


def test_quotas_are_those_of_the_step_of_every_unit() -> None:
    """Size 8 in 3 steps: 3, 3, 2; units in one batch may take different steps."""
    x = torch.full((3, 8), MASK)
    logits = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    after = AbsorbingMask(MASK, Static()).advance(x, logits, Turn(torch.tensor([0, 1, 2]), 3, no_draw))
    assert (after.x != MASK).sum(-1).tolist() == [3, 3, 2]
    assert AbsorbingMask(MASK).level(after.x).tolist() == [5 / 8, 5 / 8, 6 / 8]


def test_the_rule_is_shown_confidence_and_entropy_of_its_own_tokens() -> None:
    peaked, flat = torch.tensor([6.0, 0, 0, 0, 0, 0]), torch.zeros(6)
    logits = torch.stack((flat, peaked, peaked, flat))
    unit = [[MASK, 2, MASK, MASK, 3, MASK]]
    for rule in (Dynamic(0.9), EntropyBounded(0.35)):
        assert advance(AbsorbingMask(MASK, rule), unit, logits, of=6).x.tolist() == [[MASK, 2, 0, 0, 3, MASK]]


def test_a_draw_reads_the_uniform_number_of_its_own_token() -> None:
    uniform = torch.tensor([[0.1, 0.9, 0.9, 0.1]])
    asked = []

    def draw(kind: str, *shape: int) -> Tensor:
        asked.append((kind, shape))
        return uniform

    process = AbsorbingMask(MASK, Static(), Sampler(1.0))
    x = torch.tensor([[2, MASK, 2, MASK]])
    even = torch.tensor([[0.0, -99, -99, -99, 0.0, -99]]).repeat(2, 1)  # token 0 below 1/2, token 4 above
    after = process.advance(x, even, Turn(torch.tensor([0]), 1, draw))
    assert asked == [("uniform", (4,))]
    assert after.x.tolist() == [[2, 4, 2, 0]]
