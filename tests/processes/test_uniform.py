"""Uniform noise: the corruption, the loss, the bound, and steps in which nothing is final but the last."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interlace.errors import SettingError
from interlace.grid import Noise
from interlace.paces import Growing
from interlace.processes import UniformTokens
from interlace.processes.protocol import Advanced, Turn
from interlace.reveal import DependenceBounded, Static
from interlace.sampling import Sampler

VOCABULARY = 7


def noise_of(*shape: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    """Numbers in [0, vocabulary), as ``corrupt`` takes them."""
    noise = Noise((seed,), vocabulary=vocabulary)
    return noise.uniform([0], [0], [0], shape)[0].double() + noise.token([0], [0], [0], shape)[0]


def drawing(visit: int, seed: int = 0) -> Any:
    """draw(kind, size) of one unit at a visit."""
    noise = Noise((seed,), vocabulary=VOCABULARY)
    return lambda kind, *shape: getattr(noise, kind)([0], [0], [visit], shape)


def walk(process: UniformTokens, x: Tensor, predictions: list[Tensor], seed: int = 0) -> list[Advanced]:
    """The unit x [1, size] through as many steps as there are predictions [size, vocabulary], until it is clean."""
    carry, found = None, []
    for step, prediction in enumerate(predictions):
        turn = Turn(torch.tensor([step]), len(predictions), drawing(step, seed), carry)
        found.append(process.advance(x, prediction[process.open(x)[0]].clone(), turn))
        x, carry = found[-1].x, found[-1].carry
        if not process.open(x).any():
            break
    return found


def logits(size: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(size, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def certain(tokens: list[int]) -> Tensor:
    return 40.0 * F.one_hot(torch.tensor(tokens), VOCABULARY)


def test_nothing_at_level_0_and_everything_at_level_1() -> None:
    process, clean, noise = UniformTokens(), torch.arange(400) % VOCABULARY, noise_of(400)
    assert torch.equal(process.corrupt(clean, torch.zeros(400), noise), clean)
    assert torch.equal(process.corrupt(clean, torch.ones(400), noise), noise.long())


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_statistics_of_a_level(level: float) -> None:
    """A token is another one with probability t (1 - 1/V), and each of the others alike."""
    n = 70_000
    clean = torch.full((n,), 3)
    noisy = UniformTokens().corrupt(clean, torch.full((n,), level), noise_of(n))
    counts = noisy.bincount(minlength=VOCABULARY) / n
    each = level / VOCABULARY
    expected = torch.full((VOCABULARY,), each).index_fill(0, torch.tensor([3]), 1 - level + each)
    torch.testing.assert_close(counts, expected, rtol=0, atol=5 * math.sqrt(0.25 / n))


def test_every_token_is_learnt_and_weighs_the_same() -> None:
    process = UniformTokens()
    clean, noisy = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 5, 3]])
    assert process.learns(noisy, clean).all()
    losses = process.loss(torch.zeros(3, VOCABULARY), clean[0], noisy[0], torch.tensor([0.01, 0.5, 1.0]))
    torch.testing.assert_close(losses, torch.full((3,), math.log(VOCABULARY)))


def test_an_open_token_shows_its_draft() -> None:
    process = UniformTokens()
    prior = process.prior(drawing(-1), 1, 50)
    assert process.open(prior).all() and process.level(prior).tolist() == [1.0]
    assert torch.equal(process.shown(prior), drawing(-1)("token", 50))
    half = torch.tensor([[~0, 4, ~6, 0]])
    assert process.open(half).tolist() == [[True, False, True, False]]
    assert process.shown(half).tolist() == [[0, 4, 6, 0]] and process.level(half).tolist() == [0.5]


def test_a_step_shows_what_is_accepted_and_new_noise_elsewhere() -> None:
    """Entropies rise from left to right; the quota of the second of four steps is half of the unit."""
    said = torch.stack([k * F.one_hot(torch.tensor(k % VOCABULARY), VOCABULARY).float() for k in (9, 8, 4, 2)])
    process = UniformTokens(Static(), pace=Growing(), enough=0.0)
    x = process.prior(drawing(-1), 1, 4)
    for visit in (0, 1):
        after = process.advance(x, said.clone(), Turn(torch.tensor([1]), 4, drawing(visit)))
        noise = drawing(visit)("token", 4)[0].tolist()
        assert after.x.tolist() == [[~2, ~1, ~noise[2], ~noise[3]]]
        assert process.open(after.x).all() and after.log_prob is not None and not after.log_prob.any()


def test_an_accepted_token_may_be_replaced() -> None:
    first, then = certain([1, 2, 3]), certain([1, 5, 3])
    found = walk(UniformTokens(), ~torch.zeros(1, 3, dtype=torch.long), [first, then, then, then])
    assert UniformTokens().shown(found[0].x).tolist() == [[1, 2, 3]]
    assert len(found) == 3 and found[-1].x.tolist() == [[1, 5, 3]]


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_a_perfect_prediction_is_the_text(patience: int) -> None:
    """As soon as it has stayed for ``patience`` steps; what was known stays, and is not waited for."""
    x = torch.tensor([[~1, ~1, 6, ~1]])
    found = walk(UniformTokens(patience=patience), x, [certain([2, 4, 0, 5])] * 9)
    assert len(found) == patience + 1
    assert found[-1].x.tolist() == [[2, 4, 6, 5]] and UniformTokens().level(found[-1].x).tolist() == [0.0]
    assert found[-1].log_prob is not None and found[-1].log_prob.abs().max() < 1e-4
    assert all(UniformTokens().level(one.x).tolist() == [0.75] for one in found[:-1])


@pytest.mark.parametrize("steps", [1, 3])
def test_the_last_step_takes_the_likeliest_tokens(steps: int) -> None:
    said = [logits(5, seed) for seed in range(steps)]
    process = UniformTokens(DependenceBounded(0.0), Sampler(2.0), enough=0.0, cooling=0.5)
    found = walk(process, process.prior(drawing(-1), 1, 5), said)
    assert len(found) == steps and found[-1].x.tolist() == [said[-1].argmax(-1).tolist()]
    warmth = 2.0 * (1 - 0.5 * (steps - 1) / steps)
    assert found[-1].log_prob is not None
    torch.testing.assert_close(found[-1].log_prob[0], (said[-1] / warmth).log_softmax(-1).amax(-1))


def test_what_another_unit_carried_is_no_step_before() -> None:
    """A first step is shown zeros where nothing was carried yet, and the likeliest tokens may be the zeros."""
    x, turn = torch.full((1, 3), ~1), Turn(torch.tensor([0]), 4, drawing(0), torch.zeros(1, 3, 2, dtype=torch.long))
    process, said = UniformTokens(), certain([0, 0, 0])
    after = process.advance(x, said, turn)
    assert process.open(after.x).all()
    assert not process.open(process.advance(after.x, said, turn._replace(step=turn.step + 1)).x).any()


def test_units_of_a_batch_do_not_influence_each_other() -> None:
    process = UniformTokens(sampler=Sampler(0.8), enough=1.2)
    said = [[logits(4, 10 * unit + min(step, 1), 1 + 3.0 * unit) for step in range(4)] for unit in range(3)]
    alone = [walk(process, process.prior(drawing(-1, unit), 1, 4), said[unit], seed=unit) for unit in range(3)]
    noise = Noise((0, 1, 2), vocabulary=VOCABULARY)

    def draw(step: int, kind: str, *shape: int) -> Tensor:
        return getattr(noise, kind)([0, 1, 2], [0] * 3, [step] * 3, shape)

    x, carry = process.prior(partial(draw, -1), 3, 4), None
    for step in range(4):
        live = [unit for unit in range(3) if step < len(alone[unit])]
        prediction = torch.cat([said[unit][step] for unit in range(3)])[process.open(x).flatten()]
        after = process.advance(x, prediction, Turn(torch.full((3,), step), 4, partial(draw, step), carry))
        x, carry = after.x, after.carry
        assert x[live].tolist() == [alone[unit][step].x[0].tolist() for unit in live]
    assert len({len(one) for one in alone}) > 1  # some end early


@pytest.mark.parametrize("t", [1.0, 0.6, 0.25])
@pytest.mark.parametrize("s", [0.0, 0.1, 0.24])
def test_the_divergence_of_a_step_from_its_definition(t: float, s: float) -> None:
    """q(x_s | x_t, y) by Bayes' rule over two tables of transitions, for noisy tokens that are right and wrong."""
    count, eye = VOCABULARY, torch.eye(VOCABULARY, dtype=torch.float64)

    def transition(keep: float) -> Tensor:
        return keep * eye + (1 - keep) / count

    first, then = transition(1 - s), transition((1 - t) / (1 - s))  # y -> x_s, x_s -> x_t
    joint = first[:, :, None] * then[None]  # [y, x_s, x_t]
    posterior = joint / joint.sum(1, keepdim=True)
    clean, noisy = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
    clean, noisy = clean.flatten(), noisy.flatten()
    said = logits(len(clean), 3, 2.0)
    truth = posterior[clean, :, noisy]
    model = torch.einsum("my,ysm->ms", said.double().softmax(-1), posterior[:, :, noisy])
    expected = torch.where(truth > 0, truth * (truth.clamp_min(1e-300).log() - model.log()), 0).sum(-1)
    at = torch.full((len(clean),), t), torch.full((len(clean),), s)
    found = UniformTokens().divergence(said, clean, noisy, *at)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_last_step_of_the_bound_is_the_likelihood_itself() -> None:
    said, clean, noisy = logits(20, 1), torch.arange(20) % VOCABULARY, torch.arange(20) % 3
    found = UniformTokens().divergence(said, clean, noisy, torch.full((20,), 0.3), torch.zeros(20))
    torch.testing.assert_close(found, F.cross_entropy(said, clean, reduction="none"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cooling": 0.0}, "cooling is 0.0; pass a share"),
        ({"cooling": 1.5}, "cooling is 1.5; pass a share"),
        ({"patience": -1}, "patience is -1 and enough 0.005; pass steps and nats"),
        ({"enough": float("nan")}, "enough nan"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        UniformTokens(**settings)
