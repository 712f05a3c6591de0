"""From logits to candidates: every number against a formula written out here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interlace.errors import SettingError
from interlace.sampling import Sampler

INFINITY = float("inf")
ALMOST_ONE = 1 - 2**-24  # the largest uniform number of float32


def log(*probabilities: float) -> Tensor:
    """Logits whose softmax is these probabilities."""
    return torch.tensor([[math.log(p) if p else -INFINITY for p in probabilities]])


def draw(sampler: Sampler, logits: Tensor, *uniform: float) -> list[int]:
    return sampler(logits.expand(len(uniform), -1), torch.tensor(uniform)).token.tolist()


def plain(logits: list[float], temperature: float, top_k: int, top_p: float) -> tuple[list[float], list[float]]:
    """Probabilities before and after the cuts, by loops."""
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    before = [w / sum(weights) for w in weights]
    kept = sorted(range(len(logits)), key=lambda i: -before[i])[: top_k or len(logits)]
    mass, nucleus = 0.0, []
    for i in kept:
        if mass >= top_p * sum(before[j] for j in kept):
            break
        nucleus.append(i)
        mass += before[i]
    return before, [before[i] / mass if i in nucleus else 0.0 for i in range(len(logits))]


def test_greedy_takes_the_likeliest_and_its_probability() -> None:
    candidates = Sampler()(torch.cat((log(0.2, 0.7, 0.1), log(0.5, 0.25, 0.25))), None)
    assert candidates.token.tolist() == [1, 0]
    torch.testing.assert_close(candidates.confidence, torch.tensor([0.7, 0.5]))
    expected = [-(0.2 * math.log(0.2) + 0.7 * math.log(0.7) + 0.1 * math.log(0.1)), 1.5 * math.log(2)]
    torch.testing.assert_close(candidates.entropy, torch.tensor(expected))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_margin_is_that_of_the_two_likeliest_before_the_cuts(temperature: float) -> None:
    """Whichever token was drawn; a plain sort of the softmax says the same."""
    logits = torch.cat((log(0.4, 0.1, 0.3, 0.2), log(0.25, 0.25, 0.25, 0.25), log(0.0, 1.0, 0.0, 0.0)))
    candidates = Sampler(temperature, top_k=2, top_p=0.9)(logits, torch.tensor([0.99, 0.99, 0.99]))
    expected = []
    for row in logits.tolist():
        first, second, *_ = sorted(plain(row, temperature, 0, 1.0)[0], reverse=True)
        expected.append(first - second)
    assert candidates.token.tolist()[:1] == [2]
    torch.testing.assert_close(candidates.margin, torch.tensor(expected))
    assert candidates.margin[1:].tolist() == [0.0, 1.0]


def test_entropy_of_certain_and_of_impossible_tokens_is_finite() -> None:
    candidates = Sampler()(torch.tensor([[0.0, -INFINITY, -INFINITY], [0.0, 0.0, -INFINITY]]), None)
    torch.testing.assert_close(candidates.entropy, torch.tensor([0.0, math.log(2)]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_confidence_is_the_probability_before_the_cuts(temperature: float) -> None:
    logits = log(0.4, 0.3, 0.2, 0.1)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1]) ** (1 / temperature)
    for sampler in (Sampler(temperature, top_k=1), Sampler(temperature, top_p=0.01), Sampler(temperature, top_k=2)):
        candidates = sampler(logits, torch.tensor([0.1]))
        assert candidates.token.tolist() == [0]
        torch.testing.assert_close(candidates.confidence, weights[:1] / weights.sum())
        assert candidates.confidence < 1


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_confidence_may_be_that_after_the_cuts(temperature: float) -> None:
    """Greedy or not: all three measures are of what is left, and the draws are what they were."""
    logits = log(0.4, 0.3, 0.2, 0.1).repeat(3, 1)
    uniform, base = torch.tensor([0.1, 0.6, 0.9]), temperature or 1.0
    weights = [p ** (1 / base) for p in (0.4, 0.3, 0.2, 0.1)]
    for cuts, left in (({"top_k": 2}, 2), ({"top_p": 0.01}, 1), ({"top_k": 3, "top_p": 0.999}, 3), ({}, 4)):
        plain, cut = (Sampler(temperature, **cuts, cut=c)(logits, uniform) for c in (False, True))
        assert torch.equal(plain.token, cut.token) and int(cut.token.max()) < left
        kept = torch.tensor(weights[:left]) / sum(weights[:left])
        torch.testing.assert_close(cut.confidence, kept[cut.token])
        torch.testing.assert_close(cut.entropy, -(kept * kept.log()).sum().expand(3), atol=1e-6, rtol=1e-5)
        second = kept[1] if left > 1 else torch.tensor(0.0)
        torch.testing.assert_close(cut.margin, (kept[0] - second).expand(3))


def test_the_share_is_of_all_the_mass_where_the_confidence_is_that_after_the_cuts() -> None:
    """Half of all the mass is two tokens; half of that of the two likeliest, 0.325, is the first alone."""
    logits = log(0.35, 0.3, 0.25, 0.1)
    assert draw(Sampler(1.0, top_k=2, top_p=0.5), logits, 0.0, ALMOST_ONE) == [0, 0]
    assert draw(Sampler(1.0, top_k=2, top_p=0.5, cut=True), logits, 0.0, ALMOST_ONE) == [0, 1]


def test_top_k_of_one_is_greedy_whatever_the_uniform_number() -> None:
    assert draw(Sampler(1.0, top_k=1), log(0.3, 0.4, 0.3), 0.0, 0.5, ALMOST_ONE) == [1, 1, 1]
    assert Sampler(1.0, top_k=1).greedy and Sampler().greedy and not Sampler(1.0).greedy


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("cut", [{"top_p": 1e-300}, {"temperature": 1e-39}, {"temperature": 1e-310, "top_p": 0.5}])
def test_numbers_that_are_next_to_nothing_are_greedy(cut: dict[str, Any], raw: bool) -> None:
    sampler, logits = Sampler(**({"temperature": 1.0} | cut), raw=raw), log(0.2, 0.5, 0.3).repeat(2, 1)
    found = sampler(logits, torch.tensor([0.0, 0.999]))
    assert found.token.tolist() == [1, 1]
    assert found.confidence.isfinite().all() and found.entropy.isfinite().all()


def test_inverse_of_the_cumulated_probability_by_hand() -> None:
    uniform = (0.0, 0.19, 0.21, 0.69, 0.71, ALMOST_ONE)
    assert draw(Sampler(1.0), log(0.2, 0.5, 0.3), *uniform) == [0, 0, 1, 1, 2, 2]
    # the two likeliest alone: 5/8 and 3/8, in the order of the vocabulary
    assert draw(Sampler(1.0, top_k=2), log(0.2, 0.5, 0.3), 0.0, 0.62, 0.63, ALMOST_ONE) == [1, 1, 2, 2]
    # the smallest set with 0.75 of the mass is 0.5 + 0.3; of the two likeliest, 0.6 is reached by the first alone
    assert draw(Sampler(1.0, top_p=0.75), log(0.2, 0.5, 0.3), 0.0, 0.62, 0.63, ALMOST_ONE) == [1, 1, 2, 2]
    assert draw(Sampler(1.0, top_k=2, top_p=0.6), log(0.2, 0.5, 0.3), 0.0, ALMOST_ONE) == [1, 1]
    # squares of the probabilities at temperature 1/2: 4, 25 and 9 of 38
    assert draw(Sampler(0.5), log(0.2, 0.5, 0.3), 0.1, 0.11, 0.76, 0.77) == [0, 1, 1, 2]


@settings(deadline=None)
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=9, unique=True),
    st.sampled_from([0.3, 1.0, 3.0]),
    st.integers(0, 9),
    st.sampled_from([0.2, 0.55, 0.9, 1.0]),
    st.floats(0, ALMOST_ONE, width=32),
)
def test_draws_as_a_plain_loop_does(
    tenths: list[int], temperature: float, top_k: int, top_p: float, uniform: float
) -> None:
    logits = [x / 10 for x in tenths]
    before, after = plain(logits, temperature, top_k, top_p)
    candidates = Sampler(temperature, top_k, top_p)(torch.tensor([logits]), torch.tensor([uniform]))
    token = int(candidates.token)
    low = sum(after[:token])
    assert after[token] > 0
    if top_k != 1:  # else greedy
        assert low - 1e-5 <= uniform <= low + after[token] + 1e-5
    assert candidates.confidence.item() == pytest.approx(before[token], rel=1e-4)
    assert candidates.entropy.item() == pytest.approx(-sum(p * math.log(p) for p in before), abs=1e-4)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    edges = (0.0, 1e-9, 0.5, ALMOST_ONE)
    for sampler in (Sampler(1.0), Sampler(1.0, top_k=2), Sampler(1.0, top_p=0.9), Sampler(0.1, top_k=4, top_p=0.999)):
        drawn = draw(sampler, log(0, 0.5, 0, 0.5, 0), *edges)
        assert set(drawn) <= {1, 3}
    # what the cuts leave out neither, at either end of the vocabulary
    assert set(draw(Sampler(1.0, top_k=2), log(0.1, 0.4, 0.35, 0.15), *edges)) == {1, 2}


SETTINGS: list[dict[str, Any]] = [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8}, {"top_k": 4, "top_p": 0.7}]


@pytest.mark.parametrize("cut", SETTINGS, ids=repr)
def test_frequencies_are_the_probabilities(cut: dict[str, Any]) -> None:
    settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} | cut
    logits, draws = [0.3, -1.2, 1.1, 0.0, -0.4, 0.9], 20_000
    uniform = torch.rand(draws, generator=torch.Generator().manual_seed(5))
    token = Sampler(**settings)(torch.tensor([logits]).expand(draws, -1), uniform).token
    counts = token.bincount(minlength=6).tolist()
    expected = [draws * p for p in plain(logits, **settings)[1]]
    assert all(count == 0 for count, e in zip(counts, expected, strict=True) if e == 0)
    chi_squared = sum((count - e) ** 2 / e for count, e in zip(counts, expected, strict=True) if e)
    assert chi_squared < 20.5  # 0.999 quantile for the 5 degrees of freedom of six tokens


def test_a_row_draws_the_same_token_alone_and_among_others() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, uniform = torch.randn(50, 20, generator=generator), torch.rand(50, generator=generator)
    sampler = Sampler(0.9, top_k=10, top_p=0.9)
    together = sampler(logits, uniform).token
    alone = torch.cat([sampler(logits[i : i + 1], uniform[i : i + 1]).token for i in range(50)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; pass 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": INFINITY}, "temperature is inf"),
        ({"top_k": -1}, "top_k is -1; pass 0"),
        ({"top_p": 0.0}, "top_p is 0.0; pass a share"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"raw": True, "cut": True}, "pass one of them"),
    ],
)
def test_bad_settings_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Sampler(**setting)


def test_a_row_that_is_no_distribution_draws_some_token() -> None:
    """Predictions that suppose wrong drafts may allow nothing; their draws are read by nobody, and harm nobody."""
    for vocabulary in (5, 128, 300):
        logits = torch.zeros(2, vocabulary)
        logits[0] = float("-inf")
        token = Sampler(temperature=1.0)(logits, torch.tensor([0.5, 0.5])).token
        assert 0 <= token.min() and token.max() < vocabulary and token[1] == vocabulary // 2
        assert len(Sampler(temperature=1.0)(logits[:0], torch.zeros(0)).token) == 0
