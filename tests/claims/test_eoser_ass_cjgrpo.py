"""The check of EOSER, ASS and CJ-GRPO, from end to end with next to no training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interlace.claims import eoser_ass_cjgrpo as claim
from interlace.training.policy import METHODS

TINY = claim.Budget(
    steps=2, most=2, every=1, rows=2, hidden_size=16, num_layers=1, judged=4, updates=2, problems=1, answers=2,
    seeds=1,
)  # fmt: skip


def test_the_check() -> None:
    said: list[str] = []
    found = claim.check(said.append, 4, TINY)
    arms = found.arms
    reinforced = [f"{world}, {method}" for world in ("sums", "countdown", "sudoku") for method in METHODS]
    assert list(arms) == [*claim.DECODINGS, *reinforced]
    assert len(found.conditions) == 6 and found.seeds == [4] and len(said) == 13
    forwards = {name: arm.numbers[claim.FORWARDS] for name, arm in arms.items()}
    assert {forwards[f"{kind}, {n} steps"] for kind in ("full", "semi-AR") for n in (16, 8, 4)} == {16, 8, 4}
    assert forwards["ASS"] == forwards["ASS + EOSER"] == 4
    for world, steps, updates in (("sums", 8, 2), ("countdown", 4, 2), ("sudoku", 4, 1)):
        # equal forwards, to less than an update
        spent = [forwards[f"{world}, {method}"] for method in METHODS]
        assert spent[0] == updates * 2 * steps and all(spent[0] - (steps + 1) < n <= spent[0] for n in spent)
    assert all(0 <= arm.numbers[claim.FIRST] <= 1 for name, arm in arms.items() if name in claim.DECODINGS)


def test_a_network_is_trained_until_it_is_half_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guessing earns 1/4: half-trained is 0.3 of the way from there to 1, where that is first reached, or never."""
    world = claim.World(16, 4, guess=0.25)
    assert world.goal(0.3) == pytest.approx(0.475)
    for rewards, expected in (([0.1, 0.47, 0.48, 0.9], 6), ([0.9], 2), ([0.1] * 5, 10)):
        asked: list[tuple[float, int]] = []

        def earned(self: Any, model: Any, *_: Any, told: list[float] = rewards, log: Any = asked) -> tuple[float, ...]:
            log.append((model.settings.temperature, model.settings.steps))
            return told[len(log) - 1], 0.0, 0.0, 0.0

        monkeypatch.setattr(claim._Check, "answers", earned)
        budget = replace(TINY, most=10, every=2)
        check = claim._Check(lambda text: None, 0, budget, tmp_path / str(expected))
        _, steps, _ = check.trained("sudoku", 10, 16, world)
        assert steps == expected and asked == [(1.0, 4)] * (expected // 2)
