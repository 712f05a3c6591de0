"""Rows of which nothing is masked are drawn anew (SDAR, arXiv:2510.06303)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interlace.errors import SettingError
from interlace.masking import Counted, Independent, Redrawn
from interlace.systems import find
from interlace.training.batch import Batch
from interlace.training.objectives import DenoisingLoss

ROWS, N = 4000, 3


def drawn(seed: int = 0, rows: int = ROWS, n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    """One level a row, uniform numbers, one unit."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(rows, 1, generator=generator).expand(rows, n).clone()
    return level, torch.rand(rows, n, generator=generator), torch.zeros(rows, n, dtype=torch.long)


def test_a_row_with_a_mask_stays_as_it_was_drawn() -> None:
    level, uniform, unit = drawn()
    before = level.clone(), uniform.clone()
    found_level, found = Redrawn(Independent())(level, uniform, unit)
    some = (uniform < level).any(1)
    assert 0.6 < some.float().mean() < 0.9  # 3 of 4 are not empty
    assert torch.equal(found_level[some], level[some]) and torch.equal(found[some], uniform[some])
    assert (found < found_level).any(1).all()
    assert torch.equal(level, before[0]) and torch.equal(uniform, before[1]), "what was given is not written to"


def test_the_law_is_that_of_rows_that_are_not_empty() -> None:
    """P(k masks) = 1 / (n + 1) for every k of a uniform level; without k = 0, 1 / n each. Redrawn levels keep to it."""
    level, uniform, unit = drawn()
    found_level, found = Redrawn(Independent())(level, uniform, unit)
    redrawn = ~(uniform < level).any(1)
    for rows in (redrawn, torch.ones_like(redrawn)):
        count, many = (found < found_level)[rows].sum(1), int(rows.sum())
        for k in (1, 2, 3):
            assert abs((count == k).double().mean().item() - 1 / 3) < 4 * (2 / 9 / many) ** 0.5
        # E[level | k of 3 masks] = (k + 1) / 5
        for k in (1, 2, 3):
            mean = found_level[rows][count == k][:, 0].double().mean().item()
            assert abs(mean - (k + 1) / 5) < 4 * 0.25 / (many / 3) ** 0.5


def test_tokens_that_share_a_level_share_the_new_one() -> None:
    level = torch.tensor([[0.01, 0.01, 0.02, 0.02, 0.02]])
    uniform, unit = torch.full((1, 5), 0.9), torch.tensor([[0, 0, 1, 1, 1]])
    found, numbers = Redrawn(Independent(), draws=1000)(level, uniform, unit)
    assert found[0, :2].unique().numel() == 1 and found[0, 2:].unique().numel() == 1
    assert found[0, 0] != found[0, 2] and not torch.equal(found[0, :1], level[0, :1])
    assert numbers.unique().numel() == 5


def test_a_row_is_the_same_alone_and_in_a_batch() -> None:
    level, uniform, unit = drawn(rows=40)
    whole = Redrawn(Independent())(level, uniform, unit)
    for row in range(40):
        alone = Redrawn(Independent())(*(t[row : row + 1] for t in (level, uniform, unit)))
        assert all(torch.equal(a[0], w[row]) for a, w in zip(alone, whole, strict=True))


@pytest.mark.parametrize("draws", [1, 3])
def test_one_token_falls_where_no_draw_brings_one(draws: int) -> None:
    class Never:
        calls = 0

        def __call__(self, level: Tensor, uniform: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
            Never.calls += 1
            return torch.zeros_like(level), uniform

    unit = torch.tensor([[-1, 0, 0, 0, 0, -1], [-1] * 6])
    places = set()
    for seed in range(40):
        uniform = torch.rand(2, 6, generator=torch.Generator().manual_seed(seed))
        given = uniform.clone()
        Never.calls = 0
        level, found = Redrawn(Never(), draws)(torch.zeros(2, 6), uniform, unit)
        masked = found < level
        assert int(masked.sum()) == 1 and not masked[0, [0, 5]].any() and not masked[1].any()
        assert Never.calls == 1 + draws and torch.equal(uniform, given)
        places.add(int(masked[0].nonzero()))
    assert places == {1, 2, 3, 4}


def test_padding_and_prompts_do_not_count() -> None:
    """A mask where nothing is learnt is none."""
    level, uniform = torch.tensor([[0.9, 0.01]]), torch.tensor([[0.1, 0.5]])
    assert torch.equal(Redrawn(Independent())(level, uniform, torch.zeros(1, 2, dtype=torch.long))[1], uniform)
    found_level, found = Redrawn(Independent())(level, uniform, torch.tensor([[-1, 0]]))
    assert found[0, 1] < found_level[0, 1]


def test_around_another_way() -> None:
    """Of four tokens at a level below 1 / 8 ``Counted`` masks none."""
    level, uniform, unit = torch.full((1, 4), 0.1), torch.rand(1, 4), torch.zeros(1, 4, dtype=torch.long)
    found_level, found = Redrawn(Counted())(level, uniform, unit)
    assert int((found < found_level).sum()) == int(found_level[0, 0] * 4) >= 1


def test_sdar_learns_from_every_row() -> None:
    """By (seed, step, row number) alone, given tokens and padding left aside."""
    objective = find("sdar").parts(find("sdar").settings.but(mask_id=9, block_size=2)).objective
    assert isinstance(objective, DenoisingLoss) and objective.masking == Redrawn(Independent())
    index = torch.arange(4).expand(300, 4)
    document = torch.tensor([0, 0, 0, -1]).expand(300, 4)
    batch = Batch(index.clone(), document, index, list(range(300)), given=index < 1)
    level, noise, _ = objective.draw(batch, seed=5, step=2)
    assert (noise < level)[:, 1:3].any(1).all()
    few = Batch(index[:3], document[:3], index[:3], [7, 250, 31], given=index[:3] < 1)
    for again, all_of_them in zip(objective.draw(few, seed=5, step=2), (level, noise), strict=False):
        assert torch.equal(again, all_of_them[few.row])
    assert not torch.equal(objective.draw(batch, seed=5, step=3)[1], noise)


def test_impossible_settings() -> None:
    with pytest.raises(SettingError, match="draws is 0; pass 1 or more"):
        Redrawn(Independent(), 0)
