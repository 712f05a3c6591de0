"""What rules leave to chance: as often as the equation says, by numbers of their own, and only if they ask."""

from __future__ import annotations

from functools import partial
from itertools import combinations, permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.errors import SettingError
from interlace.grid import Noise
from interlace.reveal import (
    Ancestral,
    Damped,
    Dynamic,
    LargestMargin,
    LeastUncertain,
    NearCertain,
    Proposal,
    Sequential,
    Static,
    Tempered,
    Threshold,
)

from .conftest import OTHERS, RANKING, proposal

TIMES = 20_000


def draw(m: int, step: int, kind: str, size: int) -> Tensor:
    """Numbers of m units, as the loop draws them."""
    assert kind == "order"
    return Noise((7,)).order([0] * m, range(m), [step] * m, (size,))


def chances(open: Tensor, quota: int = 1, step: int = 0, of: int = 4, **scores: Tensor) -> Proposal:
    return proposal(open, quota, step, of, partial(draw, len(open), step), **scores)


def some(m: int = 200, size: int = 6, ties: bool = False) -> Proposal:
    """Units with random tokens open, and scores that have nothing to do with each other."""
    generator = torch.Generator().manual_seed(0)
    open = torch.rand(m, size, generator=generator) < 0.7
    scores = {name: torch.rand(m, size, generator=generator) for name in ("confidence", "entropy", "margin")}
    if ties:
        scores = {name: (4 * score).round() / 4 for name, score in scores.items()}
    return chances(open, 2, **scores)


def near(found: float, expected: float, error: float) -> bool:
    return abs(found - expected) <= 4 * error


@pytest.mark.parametrize(
    ("rule", "count", "score"),
    [
        (Static(), 2, "confidence"),
        (Dynamic(1.0), 2, "confidence"),
        (Threshold(1.0), 1, "confidence"),
        (LargestMargin(), 2, "margin"),
        (LeastUncertain(), 3, "entropy"),
        (NearCertain(0.0, 0.0), 1, "entropy"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_the_best_are_drawn_without_replacement(rule: Any, count: int, score: str, temperature: float) -> None:
    """Every set as often as its tokens come in any order: one by softmax(score / T), the next by that of the rest."""
    open = torch.tensor([True, True, False, True, True])
    scores = {
        "confidence": torch.tensor([0.9, 0.5, 0.99, 0.6, 0.7]),
        "margin": torch.tensor([0.1, 0.3, 0.99, 0.2, 0.15]),
        "entropy": torch.tensor([0.4, 0.1, 0.0, 0.2, 0.7]),
    }
    chosen = Tempered(rule, temperature)(chances(open.expand(TIMES, -1), count, **scores))
    assert (chosen.sum(1) == count).all() and not chosen[:, ~open].any()
    ranked = -scores[score] if score == "entropy" else scores[score]
    weight = {place: (ranked[place].double() / temperature).exp().item() for place in (0, 1, 3, 4)}
    for places in combinations(weight, count):
        chance = 0.0
        for order in permutations(places):
            one, left = 1.0, sum(weight.values())
            for place in order:
                one *= weight[place] / left
                left -= weight[place]
            chance += one
        found = chosen[:, list(places)].all(1).double().mean().item()
        assert near(found, chance, (chance * (1 - chance) / TIMES) ** 0.5), places


@pytest.mark.parametrize("rule", RANKING, ids=repr)
def test_without_a_temperature_it_is_the_rule(rule: Any) -> None:
    for unit in (some(), some(ties=True)):
        assert torch.equal(Tempered(rule, 0.0)(unit), rule(unit))
    assert torch.equal(Tempered(rule, 1e-7)(some()), rule(some()))
    assert not torch.equal(Tempered(rule, 1.0)(some()), rule(some()))


@pytest.mark.parametrize(
    "rule", [*OTHERS, Ancestral()], ids=repr
)
def test_a_rule_that_takes_no_best_stays_what_it_is(rule: Any) -> None:
    assert torch.equal(Tempered(rule, 5.0)(some()), rule(some()))


def test_a_threshold_is_compared_with_the_confidence() -> None:
    open, confidence = torch.ones(100, 4, dtype=torch.bool), torch.tensor([0.95, 0.1, 0.92, 0.2])
    sure = [True, False, True, False]
    assert Tempered(Dynamic(0.9), 50.0)(chances(open, confidence=confidence)).tolist() == [sure] * 100
    chosen = Tempered(Threshold(0.9), 50.0)(chances(open, confidence=confidence))
    assert chosen[:, [0, 2]].all() and 0 < chosen[:, [1, 3]].sum() < 100


def test_what_is_drawn_is_what_was_damped() -> None:
    inside, outside = Damped(Tempered(Static(), 0.3), (0,), 0.5), Tempered(Damped(Static(), (0,), 0.5), 0.3)
    assert torch.equal(inside(some()), outside(some()))
    assert not torch.equal(inside(some()), Tempered(Static(), 0.3)(some()))


@pytest.mark.parametrize(("of", "eps"), [(5, 1e-3), (3, 0.2), (1, 1e-3)])
def test_masks_are_lifted_as_often_as_the_process_says(of: int, eps: float) -> None:
    """Of N tokens N (t - s) in the step from t to s, each on its own, and the rest in the last; no score is asked."""
    m, size = 4000, 6
    open = torch.ones(m, size, dtype=torch.bool)
    time = [1 - (1 - eps) * step / of for step in range(of)] + [0.0]  # the last step ends at 0
    for step in range(of):
        fixed = Ancestral(eps)(chances(open, 0, step, of))
        assert not (fixed & ~open).any()
        share = time[step] - time[step + 1]
        error = (share * (1 - share) / (m * size)) ** 0.5
        assert near(fixed.double().mean().item(), share, error), step
        both = (fixed[:, 0] & fixed[:, 1]).double().mean().item()
        assert near(both, share**2, (share**2 * (1 - share**2) / m) ** 0.5), step
        open = open & ~fixed
    assert not open.any()


def test_numbers_are_drawn_for_those_who_ask() -> None:
    def refuse(*asked: Any) -> Tensor:
        raise AssertionError("nobody asked for it")

    unit = some()
    quiet = Proposal(unit.open, unit.drawn, unit.quota, unit.step, unit.of, refuse)
    for rule in (*RANKING, *OTHERS):
        assert torch.equal(rule(quiet), rule(unit))
    assert torch.equal(Tempered(Sequential(), 1.0)(quiet), Sequential()(unit))
    for rule in (Ancestral(), Tempered(Static(), 1.0)):
        with pytest.raises(AssertionError, match="nobody asked for it"):
            rule(quiet)


def test_a_number_of_zero_is_one_like_others() -> None:
    open = torch.tensor([[False, True, True]])
    unit = chances(open, 2, confidence=torch.tensor([0.5, 0.6, 0.7]))
    zero = Proposal(open, unit.drawn, unit.quota, unit.step, 4, lambda kind, size: torch.zeros(1, size))
    for rule in (Tempered(Static(), 1.0), Tempered(Static(), 0.0), Ancestral()):
        assert torch.equal(rule(zero), open)


def test_an_infinite_temperature_takes_any_order() -> None:
    """Whatever the scores: that of the numbers alone, to which a large temperature comes down as well."""
    unit = some(1000)
    chosen = Tempered(Static(), float("inf"))(unit)
    assert torch.equal(chosen, Proposal.top(unit, unit.uniform, unit.quota))
    assert torch.equal(chosen, Tempered(Static(), 1e30)(unit))
    assert torch.equal(chosen, Tempered(LargestMargin(), float("inf"))(unit))


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_bad_settings_are_refused(value: float) -> None:
    if value != float("inf"):
        with pytest.raises(SettingError, match=f"the temperature of the order is {value}; pass 0"):
            Tempered(Static(), value)
    with pytest.raises(SettingError, match=f"eps is {value}; pass the time"):
        Ancestral(value)
