"""The check of ACDiT's claim, from end to end with next to no training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interlace.claims.acdit import CACHED, FOUR, NOISY, ONE, RECOMPUTED, SIXTEEN, TOGETHER, Budget, _Counter, check
from interlace.clips import ClipData, ClipShape
from interlace.evaluation.frechet import frechet
from interlace.nn import Transformer, TransformerConfig

TINY = Budget(
    steps=2,
    rows=2,
    judged=3,
    denoising=2,
    lengths=(16, 32),
    timed=1,
    patch=8,
    shape=ClipShape(hidden_size=32, num_layers=1, num_heads=2),
    data=ClipData(samples=4, shapes=("circle",), motions=("east",), colours=("red",), speeds=(1.0, 1.0)),
)


def test_the_check_runs_all_arms_and_judges_by_the_claim() -> None:
    said: list[str] = []
    found = check(said.append, seed=2, budget=TINY)
    assert list(found.arms) == [ONE, FOUR, SIXTEEN, NOISY, CACHED, RECOMPUTED, TOGETHER]
    assert found.baseline == ONE and found.seeds == [2] and len(said) == 5
    assert list(found.conditions) == [
        "4 units >= 1 unit - 5 points",
        "clean context better than noisy context",
        "keys kept cheaper than recomputed from some length on",
    ]
    assert found.conditions["4 units >= 1 unit - 5 points"]  # nobody knows anything yet
    assert not found.conditions["clean context better than noisy context"]
    for name in (ONE, FOUR, SIXTEEN, NOISY):
        arm = found.arms[name]
        assert arm.steps == 2 and arm.tokens == 2 * 2 * 64
        assert arm.numbers["share valid"] == 0 and arm.numbers["Fréchet distance"] > 0


def test_the_work_of_a_rollout_is_that_of_theory() -> None:
    """At 1 step per unit of 4 frames (16 tokens): kept, every unit once noisy and all but the last once clean."""
    arms = check(lambda _: None, budget=TINY).arms
    weights, pair = 32 * (4 * 32 + 8 * 32 + 6 * 32), 2 * 32

    def work(name: str, frames: int) -> float:
        return arms[name].numbers[f"{frames} frames: million multiply-adds per frame"] * frames * 1e6

    def kept(units: int) -> int:
        feeds = [(16, 16)] + [(32, 16 * (u + 1)) for u in range(1, units)]
        return sum(n * (weights + keys * pair) for n, keys in feeds)

    def recomputed(units: int) -> int:
        return sum(16 * u * (weights + 16 * u * pair) for u in range(1, units + 1))

    for frames, units in ((16, 4), (32, 8)):
        assert work(CACHED, frames) == pytest.approx(kept(units), rel=0.02)
        assert work(RECOMPUTED, frames) == pytest.approx(recomputed(units), rel=0.02)
        assert work(TOGETHER, frames) == pytest.approx(4 * frames * (weights + 4 * frames * pair), rel=0.02)


def test_a_counted_network_is_the_same_network() -> None:
    config = TransformerConfig(vocab_size=8, hidden_size=16, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=8)
    network = Transformer(config).initialise(torch.Generator().manual_seed(0))
    counter, ids = _Counter(network), torch.arange(6)[None]
    assert torch.equal(counter.head(counter(ids, ids, None, None)), network.head(network(ids, ids)))
    assert counter.work == 6 * (counter.weights + 6 * 2 * 2 * 16)


def test_frechet_is_the_distance_of_two_normal_distributions() -> None:
    random = np.random.default_rng(0)
    one = random.normal(size=(20_000, 3)) @ np.diag([1.0, 2.0, 0.5])
    two = random.normal(size=(20_000, 3)) @ np.diag([2.0, 2.0, 1.0]) + np.array([1.0, 0.0, -2.0])
    assert frechet(one, two) == pytest.approx(5 + 1 + 0.25, rel=0.05)  # independent axes: (m - m')^2 + (s - s')^2
    assert frechet(one, one) == pytest.approx(0, abs=1e-6)
