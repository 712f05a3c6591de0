"""Next token: cross-entropy, and a unit of one token that is known at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from interlace.processes import NextToken, Turn
from interlace.sampling import Sampler


def draw(kind: str, *shape: int) -> Tensor:
    assert kind == "uniform"
    return torch.tensor([[0.3], [0.8]])


def test_the_loss_is_the_cross_entropy() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    losses = NextToken().loss(logits, torch.tensor([2, 1]), torch.zeros(2), torch.zeros(()))
    expected = [math.log(1 + math.exp(-1) + math.exp(-2)), math.log(math.exp(3) + 2)]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_nothing_is_hidden_and_everything_is_learnt() -> None:
    clean = torch.tensor([[4, 2]])
    process = NextToken()
    assert torch.equal(process.corrupt(clean, torch.ones(1, 2), torch.zeros(1, 2)), clean)
    assert process.learns(clean, clean).all()


def test_a_unit_is_open_until_its_one_step() -> None:
    process = NextToken()
    x = process.prior(draw, 2, 1)
    assert process.open(x).tolist() == [[True], [True]] and process.level(x).tolist() == [1.0, 1.0]
    logits = torch.tensor([[0.0, 2.0, 0.0], [5.0, 0.0, 0.0]])
    after = process.advance(x, logits, Turn(torch.tensor([0, 0]), 1, draw))
    assert after.x.tolist() == [[1], [0]] and process.level(after.x).tolist() == [0.0, 0.0]
    assert after.log_prob is not None
    torch.testing.assert_close(after.log_prob, logits.log_softmax(-1).max(-1, keepdim=True).values)
    assert not process.open(after.x).any()


def test_a_draw_takes_one_uniform_number_a_unit() -> None:
    even = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    after = NextToken(Sampler(1.0)).advance(torch.full((2, 1), -1), even, Turn(torch.tensor([0, 0]), 1, draw))
    assert after.x.tolist() == [[0], [1]]
