"""The numbers that a row draws belong to (seed, unit, step): no order, batch, cache or path changes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interlace.attention.patterns import BlockCausal
from interlace.grid import Noise
from interlace.processes import AbsorbingMask, FlowMatching, Gaussian
from interlace.reveal import Dynamic, EntropyBounded, Static
from interlace.sampling import Sampler
from interlace.schedules import BlockByBlock, Diagonal, LevelByLevel
from interlace.solvers import DDIM, Ancestral

from .conftest import MASK, Watch, feature_network, features, run, same, text_network, tokens

DRAWN = AbsorbingMask(MASK, Dynamic(0.4), Sampler(1.0))


def test_the_order_of_the_rows_changes_nothing() -> None:
    prompts, seeds = [tokens(5), tokens(2, 1), tokens(8, 2)], [3, 4, 5]
    rows = run(text_network(), prompts, 9, DRAWN, BlockByBlock(4), seed=seeds)
    back = run(text_network(), prompts[::-1], 9, DRAWN, BlockByBlock(4), seed=seeds[::-1])
    for one, other in zip(rows, back[::-1], strict=True):
        same(one, other)


def test_the_same_seed_gives_the_same_row_and_another_another() -> None:
    again = [run(text_network(), [tokens(5)], 12, DRAWN, BlockByBlock(4), seed=seed)[0] for seed in (1, 1, 2, 3)]
    same(again[0], again[1])
    assert len({tuple(row.content.tolist()) for row in again}) == 3


def test_a_longer_row_begins_as_a_shorter_one() -> None:
    short, long = (run(text_network(), [tokens(5)], n, DRAWN, BlockByBlock(4), seed=6)[0] for n in (7, 15))
    assert long.content[:7].tolist() == short.content.tolist()


def test_paths_that_ask_the_same_questions_give_the_same_row() -> None:
    """One step per unit, each after the one before: by blocks, by levels and by a diagonal of one."""
    process = AbsorbingMask(MASK, Static(), Sampler(1.0))
    rows = [
        run(text_network(), [tokens(5)], 11, process, schedule, seed=2)[0]
        for schedule in (BlockByBlock(1), LevelByLevel(1), Diagonal(1, 1, 1), Diagonal(1, 3, 1))
    ]
    for row in rows[1:]:
        same(rows[0], row)


def test_level_by_level_is_the_diagonal_that_pipelines_it() -> None:
    """Two open units: cells that do not depend on each other run in one move or one after the other, with one sample.

    (A third unit would see the first one a level further on: the diagonal equals the sweep for direct neighbours only.)
    """
    for process in (FlowMatching(DDIM()), Gaussian(Ancestral())):
        options: dict[str, Any] = {"label": [1], "seed": 4, "pattern": BlockCausal()}
        rows = [
            run(feature_network(), [features(4)], 8, process, schedule, **options)[0]
            for schedule in (LevelByLevel(3), Diagonal(3, window=3, lag=1))
        ]
        same(*rows)


def test_a_draw_is_the_inverse_at_the_number_of_its_unit_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An even head over 8 tokens: token = floor(8 u) with u indexed by (seed, unit, step, place in the unit)."""
    network = text_network()
    logits = torch.full((32,), -1e9)
    logits[:8] = 0.0
    monkeypatch.setattr(network, "head", lambda hidden: logits.expand(*hidden.shape[:-1], -1).clone())
    process = AbsorbingMask(MASK, Static(), Sampler(1.0))
    (row,) = run(network, [tokens(2)], 10, process, BlockByBlock(2), seed=11)
    assert row.order is not None
    for place in range(2, 12):
        step = int(row.order[place - 2])
        u = Noise((11,)).uniform([0], [place // 4], [step], (4,))[0, place % 4]
        assert row.row[place] == int(8 * u)


def test_a_step_taken_again_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step asked for, one token fixed a step: the candidates of every visit are draws of their own."""
    network = text_network()
    logits = torch.zeros(32)
    logits[MASK] = -1e9
    monkeypatch.setattr(network, "head", lambda hidden: logits.expand(*hidden.shape[:-1], -1).clone())
    process = AbsorbingMask(MASK, EntropyBounded(0.0), Sampler(1.0))
    (row,) = run(network, [[]], 4, process, BlockByBlock(1), seed=5)
    assert row.order is not None and row.order.tolist() == [0, 1, 2, 3]
    drawn = [int(31 * Noise((5,)).uniform([0], [0], [visit], (4,))[0, visit]) for visit in range(4)]
    assert row.content.tolist() == drawn


def test_features_start_as_the_noise_of_their_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that says 'no velocity' leaves the prior, one that says 'all is noise' leaves nothing."""
    network = feature_network()
    Watch(network, monkeypatch)
    monkeypatch.setattr(network, "head", lambda hidden: torch.zeros(*hidden.shape[:-1], 3))
    (row,) = run(network, [features(4)], 8, FlowMatching(DDIM()), BlockByBlock(2), label=[0], seed=9)
    prior = Noise((9,)).normal([0, 0], [1, 2], [-1, -1], (4, 3)).flatten(0, 1)
    torch.testing.assert_close(row.content, prior)
