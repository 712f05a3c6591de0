"""How many tokens of a unit are masked, and which; the numbers are those of Efficient-DLM (arXiv:2512.14067)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interlace.errors import SettingError
from interlace.masking import Counted, Independent


def chosen(masking: Counted, t: float, size: int, draws: int, seed: int = 0) -> torch.Tensor:
    """boolean [draws, size]: what is masked of a unit at level t."""
    uniform = torch.rand(draws, size, generator=torch.Generator().manual_seed(seed))
    level, uniform = masking(torch.full((draws, size), t), uniform, torch.zeros(draws, size, dtype=torch.long))
    return uniform < level


@pytest.mark.parametrize(("size", "tilt"), [(64, 0.1083), (32, 0.2166), (16, 0.4332), (4, 1.7329)])
def test_the_tilt_of_a_half_life(size: int, tilt: float) -> None:
    assert Counted.half_life(0.1, size).tilt == pytest.approx(tilt, abs=5e-5)
    weights = [math.exp(Counted.half_life(0.1, size).tilt * i) for i in (0, 0.1 * size)]
    assert weights[1] == pytest.approx(2 * weights[0])


@pytest.mark.parametrize(
    ("t", "inclusion"),
    [
        (0.5, [0.131, 0.304, 0.668, 0.898]),
        (0.25, [0.015, 0.054, 0.199, 0.731]),
        (0.75, [0.514, 0.711, 0.847, 0.929]),
        (1.0, [1.0] * 4),
    ],
)
def test_inclusion_probabilities(t: float, inclusion: list[float]) -> None:
    draws = 40_000
    share = chosen(Counted.half_life(0.1, 4), t, 4, draws).double().mean(0)
    for found, expected in zip(share.tolist(), inclusion, strict=True):
        assert abs(found - expected) < 3 * (0.25 / draws) ** 0.5 + 5e-4  # the published figures have three digits
    assert share.sum().item() == pytest.approx(4 * t)


def test_averaged_over_levels_later_tokens_are_masked_more() -> None:
    masking, draws = Counted.half_life(0.1, 16), 400
    share = torch.stack([chosen(masking, (k + 0.5) / 200, 16, draws, k).double().mean(0) for k in range(200)]).mean(0)
    assert share[0].item() == pytest.approx(0.27, abs=0.01) and share[-1].item() == pytest.approx(0.83, abs=0.01)
    assert (share.diff() > 0).all() and share.mean().item() == pytest.approx(0.5, abs=0.002)


def test_without_tilt_the_order_is_that_of_the_draws() -> None:
    """Uniform sampling without replacement by the same numbers: the k largest."""
    uniform = torch.rand(50, 8, generator=torch.Generator().manual_seed(3))
    level, spread = Counted()(torch.full((50, 8), 0.375), uniform, torch.zeros(50, 8, dtype=torch.long))
    largest = uniform.argsort(1, descending=True).argsort(1) < 3
    assert torch.equal(spread < level, largest)
    assert torch.equal(spread < level, chosen(Counted(0.0), 0.375, 8, 50, 3))


@given(
    st.lists(st.tuples(st.integers(1, 6), st.floats(0, 1)), min_size=1, max_size=6),
    st.integers(0, 10_000),
    st.floats(-2, 2),
)
def test_every_unit_has_its_own_count(units: list[tuple[int, float]], seed: int, tilt: float) -> None:
    unit = torch.cat([torch.full((size,), u) for u, (size, _) in enumerate(units)])[None]
    level = torch.cat([torch.full((size,), t) for size, t in units])[None]
    uniform = torch.rand(unit.shape, generator=torch.Generator().manual_seed(seed))
    settled, spread = Counted(tilt)(level, uniform, unit)
    assert ((spread > 0) & (spread < 1)).all()
    for u, (size, t) in enumerate(units):
        here = unit == u
        count = int((torch.tensor(t) * size).round())
        assert int((spread < settled)[here].sum()) == count
        assert settled[here].eq(count / size).all()


def test_a_unit_is_what_is_equal_and_adjacent() -> None:
    """Padding (-1) is a run of its own and takes nothing from the units beside it."""
    unit = torch.tensor([[0, 0, 0, 0, -1, -1, 7, 7]])
    level = torch.tensor([[0.5] * 4 + [0.9] * 2 + [1.0] * 2])
    settled, spread = Counted()(level, torch.rand(1, 8, generator=torch.Generator().manual_seed(0)), unit)
    masked = spread < settled
    assert int(masked[0, :4].sum()) == 2 and masked[0, 6:].all()


def test_extreme_numbers_are_masked_like_others() -> None:
    uniform = torch.tensor([[0.0, 1 - 2**-24, 0.5, 0.0]])
    settled, spread = Counted(0.3)(torch.full((1, 4), 0.5), uniform, torch.zeros(1, 4, dtype=torch.long))
    assert spread.isfinite().all() and int((spread < settled).sum()) == 2


def test_independent_masks_leave_all_as_drawn() -> None:
    level, uniform = torch.rand(2, 3), torch.rand(2, 3)
    assert Independent()(level, uniform, torch.zeros(2, 3, dtype=torch.long)) == (level, uniform)


def test_impossible_settings() -> None:
    with pytest.raises(SettingError, match="the half-life is 0 of a block of 4; pass a positive share"):
        Counted.half_life(0, 4)
    with pytest.raises(SettingError, match="tilt is nan; pass a number"):
        Counted(math.nan)
    assert Counted.half_life(math.inf, 4).tilt == 0
