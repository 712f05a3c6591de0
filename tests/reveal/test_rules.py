"""Which candidates are fixed now: every rule on tables by hand, and what holds of all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interlace.errors import SettingError
from interlace.reveal import (
    Damped,
    DependenceBounded,
    Dynamic,
    EntropyBounded,
    FirstAlone,
    LargestMargin,
    Leading,
    LeastUncertain,
    NearCertain,
    Proposal,
    Sequential,
    Static,
    Threshold,
    top,
)

from .conftest import OTHERS, RANKING, proposal

RULES = [*RANKING, *OTHERS, FirstAlone(Static())]


def fixed(rule: Any, open: str, score: list[float], quota: int = 1) -> str:
    """The rule on one unit: ``open`` such as "x.x" (x = open); ``score`` is confidence, entropy and margin."""
    mask, numbers = torch.tensor([[c == "x" for c in open]]), torch.tensor([score])
    chosen = rule(proposal(mask, quota, confidence=numbers, entropy=numbers, margin=numbers))
    assert chosen.dtype == torch.bool and chosen.shape == mask.shape
    return "".join("x" if c else "." for c in chosen[0].tolist())


SCORES = [0.5, 0.9, 0.7, 0.8]


@pytest.mark.parametrize(
    ("rule", "open", "quota", "expected"),
    [
        (Static(), "xxxx", 1, ".x.."),
        (Static(), "xxxx", 2, ".x.x"),
        (Static(), "x.xx", 2, "..xx"),  # the most confident one is fixed already
        (Static(), "x...", 3, "x..."),  # fewer open tokens than the quota
        (Static(), "....", 2, "...."),
        (Sequential(), "xxxx", 2, "xx.."),
        (Sequential(), ".x.x", 1, ".x.."),
        (Sequential(), "...x", 2, "...x"),
        (Dynamic(0.75), "xxxx", 1, ".x.x"),  # all above the threshold, more than the quota
        (Dynamic(0.75), "xxxx", 3, ".xxx"),  # too few above it: the quota's most confident
        (Dynamic(0.75), "x.xx", 2, "..xx"),
        (Dynamic(0.75), "x.x.", 1, "..x."),
        (Dynamic(0.75), "x...", 2, "x..."),
        (Dynamic(0.9), "xxxx", 1, ".x.."),  # the threshold itself is not above the threshold
        (Dynamic(0.0), "xx.x", 1, "xx.x"),
        (Threshold(0.75), "xxxx", 4, ".x.x"),  # the quota is ignored
        (Threshold(0.9), "xxxx", 4, ".x.."),
        (Threshold(0.95), "xxxx", 4, ".x.."),  # at least the best one
        (Threshold(0.75), "x.x.", 2, "..x."),
        (Leading(0.75), "xxxx", 4, "xx.."),  # 0.5 leads, 0.9 is sure, 0.7 is not
        (Leading(0.6), "xxxx", 1, "xxxx"),
        (Leading(0.6), ".x.x", 1, ".x.x"),  # what is known does not stand in the way
        (Leading(0.95), "xxxx", 3, "x..."),
        (NearCertain(0.75, 0.0), "xxxx", 3, "x.x."),
        (NearCertain(0.75, 0.1), "xxxx", 3, "x..."),  # 0.7 + 2 * 0.1
        (NearCertain(0.75, 0.1), "..xx", 3, "..x."),
        (NearCertain(0.1, 0.0), ".xxx", 3, "..x."),
        (LeastUncertain(), "xxxx", 1, "x..."),
        (LeastUncertain(), "xxxx", 3, "x.xx"),
        (LeastUncertain(), ".xxx", 2, "..xx"),
        (LeastUncertain(), "...x", 2, "...x"),
        (LargestMargin(), "xxxx", 1, ".x.."),
        (LargestMargin(), "x.xx", 2, "..xx"),
        (LargestMargin(), "x...", 2, "x..."),
    ],
)
def test_by_hand(rule: Any, open: str, quota: int, expected: str) -> None:
    assert fixed(rule, open, SCORES, quota) == expected


def test_threshold_takes_the_threshold_itself() -> None:
    assert fixed(Threshold(0.75), "xxx", [0.75, 0.5, 0.875]) == "x.x"
    assert fixed(Dynamic(0.75), "xxx", [0.75, 0.5, 0.875]) == "..x"


@pytest.mark.parametrize(
    ("gamma", "open", "entropy", "expected"),
    [
        (0.35, "xxxx", [0.1, 0.2, 0.3, 0.0], "xx.x"),  # 0, 0.1, 0.3 < 0.35 <= 0.6
        (0.35, "xxxx", [0.9, 0.5, 0.7, 0.6], ".x.."),  # at least one: the least uncertain
        (0.35, ".xx.", [0.0, 0.4, 0.2, 0.0], "..x."),
        (0.0, "xx", [0.0, 0.0], "x."),
        (9.0, "x.xx", [1.0, 1.0, 2.0, 3.0], "x.xx"),
        (0.35, "...", [0.0, 0.0, 0.0], "..."),
    ],
)
def test_entropy_bounded_by_hand(gamma: float, open: str, entropy: list[float], expected: str) -> None:
    assert fixed(EntropyBounded(gamma), open, entropy) == expected


def test_what_no_rule_asks_for_is_not_computed() -> None:
    open = torch.tensor([[True, False, True], [False, True, False]])

    class Drawn:
        token = torch.tensor([7, 8, 9])
        confidence = torch.tensor([0.5, 0.25, 1.0])

        @property
        def entropy(self) -> Tensor:
            raise AssertionError("nobody asked for it")

        margin = entropy

    drawn: Any = Drawn()
    one = torch.tensor([1, 1])
    offered = Proposal(open, drawn, one, 0 * one, of=3)
    assert offered.token.tolist() == [[7, 0, 8], [0, 9, 0]]
    assert offered.confidence.tolist() == [[0.5, 0, 0.25], [0, 1, 0]]
    for rule in (Static(), Sequential(), Dynamic(0.6), Threshold(0.6), Leading(0.6)):
        rule(offered)


@pytest.mark.parametrize(
    ("gamma", "open", "entropy", "expected"),
    [
        (0.25, "xxxx", [0.125, 0.5, 0.25, 0.125], "x.xx"),  # 0, 0.125, 0.25 <= 0.25 < 0.5
        (0.5, "xxxx", [0.125, 9.0, 0.25, 0.125], "xxxx"),  # the largest does not count
        (0.0, "xxx", [2.0, 1.0, 3.0], ".x."),
        (0.0, "xxx", [0.0, 1.0, 0.0], "xxx"),
        (9.0, ".x.", [0.0, 5.0, 0.0], ".x."),
        (0.25, "...", [0.0, 0.0, 0.0], "..."),
    ],
)
def test_dependence_bounded_by_hand(gamma: float, open: str, entropy: list[float], expected: str) -> None:
    assert fixed(DependenceBounded(gamma), open, entropy) == expected


def test_ties_go_to_the_left() -> None:
    open, score = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[0.5, 0.7, 0.7, 0.7]])
    assert top(open, score, torch.tensor([2])).tolist() == [[False, True, True, False]]
    assert fixed(EntropyBounded(0.5), "xxxx", [0.5, 0.2, 0.2, 0.2]) == ".xx."


@st.composite
def units(draw: st.DrawFn) -> Proposal:
    """A few units with any tokens open; quotas from 1."""
    m, size = draw(st.integers(1, 4)), draw(st.integers(1, 8))

    def table(values: st.SearchStrategy[Any]) -> list[list[Any]]:
        return draw(st.lists(st.lists(values, min_size=size, max_size=size), min_size=m, max_size=m))

    share = st.integers(0, 16).map(lambda n: n / 16)  # exact sums, and many ties
    quota = draw(st.lists(st.integers(1, size + 1), min_size=m, max_size=m))
    open, confidence, entropy = (torch.tensor(table(values)) for values in (st.booleans(), share, share))
    return proposal(open, torch.tensor(quota), confidence=confidence, entropy=entropy, margin=entropy)


@settings(deadline=None, max_examples=50)
@given(units(), st.sampled_from(RULES))
def test_a_rule_fixes_open_tokens_only_and_at_least_one(unit: Proposal, rule: Any) -> None:
    open = unit.open
    chosen = rule(unit)
    assert not (chosen & ~open).any()
    assert (chosen.any(-1) | ~open.any(-1)).all()


@settings(deadline=None, max_examples=50)
@given(units(), st.sampled_from(RULES))
def test_units_do_not_influence_each_other(unit: Proposal, rule: Any) -> None:
    whole = {"open": unit.open, "quota": unit.quota, "confidence": unit.confidence, "entropy": unit.entropy}
    alone = []
    for i in range(len(unit.open)):
        part = {name: value[i : i + 1] for name, value in whole.items()}
        alone.append(rule(proposal(**part, margin=part["entropy"])))
    assert torch.equal(rule(unit), torch.cat(alone))


@settings(deadline=None, max_examples=50)
@given(units())
def test_counts(unit: Proposal) -> None:
    open, quota = unit.open, unit.quota
    full = torch.minimum(open.sum(-1), quota)
    for rule in (Static(), Sequential(), LeastUncertain(), LargestMargin()):
        assert torch.equal(rule(unit).sum(-1), full)
    assert (Dynamic(0.5)(unit).sum(-1) >= full).all()


@settings(deadline=None, max_examples=50)
@given(units(), st.sampled_from([1.0, 1.5, float("inf")]))
def test_dynamic_with_a_threshold_of_one_is_static(unit: Proposal, threshold: float) -> None:
    assert torch.equal(Dynamic(threshold)(unit), Static()(unit))


@settings(deadline=None, max_examples=50)
@given(units())
def test_what_is_fixed_is_no_less_confident_than_what_is_not(unit: Proposal) -> None:
    open, confidence = unit.open, unit.confidence
    for rule in (Static(), Dynamic(0.6), Threshold(0.6)):
        chosen = rule(unit)
        worst = confidence.masked_fill(~chosen, 2).min(-1).values
        rest = confidence.masked_fill(chosen | ~open, -1).max(-1).values
        assert (worst >= rest).all()


@settings(deadline=None, max_examples=50)
@given(units(), st.sampled_from([0.0, 0.3, 0.35, 1.0, 2.5]))
def test_entropy_bounded_as_a_plain_loop(unit: Proposal, gamma: float) -> None:
    chosen = EntropyBounded(gamma)(unit)
    for open, entropy, row in zip(unit.open.tolist(), unit.entropy.tolist(), chosen.tolist(), strict=True):
        ranked = sorted((i for i in range(len(open)) if open[i]), key=lambda i: entropy[i])
        count, total = 0, 0.0
        for i in ranked:
            total += entropy[i]
            if total < gamma:
                count += 1
        expected = set(ranked[: max(1, count)])
        assert {i for i, c in enumerate(row) if c} == expected


@settings(deadline=None, max_examples=50)
@given(units(), st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.5]))
def test_dependence_bounded_as_a_plain_loop(unit: Proposal, gamma: float) -> None:
    """Not fewer than with the largest entropy counted, and at most one token more."""
    chosen = DependenceBounded(gamma)(unit)
    for open, entropy, row in zip(unit.open.tolist(), unit.entropy.tolist(), chosen.tolist(), strict=True):
        ranked = sorted((i for i in range(len(open)) if open[i]), key=lambda i: entropy[i])
        expected: set[int] = set()
        for i in ranked:
            if sum(entropy[j] for j in expected) > gamma:
                break
            expected.add(i)
        assert {i for i, c in enumerate(row) if c} == expected


@settings(deadline=None, max_examples=50)
@given(units())
def test_least_uncertain_as_a_plain_loop(unit: Proposal) -> None:
    rows = zip(unit.open.tolist(), unit.entropy.tolist(), unit.quota.tolist(), strict=True)
    for (open, entropy, quota), row in zip(rows, LeastUncertain()(unit).tolist(), strict=True):
        ranked = sorted((i for i in range(len(open)) if open[i]), key=lambda i: entropy[i])
        assert {i for i, c in enumerate(row) if c} == set(ranked[:quota])


@pytest.mark.parametrize(
    ("cls", "value", "message"),
    [
        (Dynamic, -0.1, "threshold is -0.1; pass a probability"),
        (Dynamic, float("nan"), "threshold is nan"),
        (Threshold, -1.0, "threshold is -1.0"),
        (EntropyBounded, -0.1, "gamma is -0.1; pass a bound"),
        (EntropyBounded, float("nan"), "gamma is nan"),
        (lambda least: Damped(Static(), (), least), -0.1, "least is -0.1 and most 1.0; pass factors"),
        (DependenceBounded, -0.1, "gamma is -0.1; pass a bound"),
    ],
)
def test_bad_settings_are_refused(cls: Any, value: float, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        cls(value)
