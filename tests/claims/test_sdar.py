"""The check of SDAR's claim, from end to end with next to no training."""

from __future__ import annotations

import pytest

from interlace.claims.sdar import Budget, check
from interlace.worlds import additions

TINY = Budget(base=2, further=1, rows=2, length=88, problems=3, hidden_size=32, num_layers=1)


def test_the_check_runs_all_arms_and_judges_by_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(additions._DOCUMENTS, "train", 60)
    said: list[str] = []
    found = check(said.append, seed=4, budget=TINY)
    assert list(found.arms) == [
        "AR",
        "AR continued",
        "SDAR, static",
        "SDAR, threshold 0.95",
        "SDAR, threshold 0.9",
        "SDAR, threshold 0.8",
        "from scratch, static",
    ]
    assert found.baseline == "AR continued" and found.seeds == [4] and len(said) == 5
    assert found.conditions == {
        "adapted >= AR continued - 2 points": True,  # nobody knows anything yet
        "adapted > from scratch + 3 points": False,
        "threshold 0.9: at least 1.5 tokens per forward": False,
        "threshold 0.9: at most 1 point lost": True,
    }
    assert found.verdict == "in part"
    arms = found.arms
    assert [arms[name].steps for name in ("AR", "AR continued", "SDAR, static", "from scratch, static")] == [2, 3, 3, 2]
    assert arms["AR"].tokens == 2 * 2 * 88 and arms["SDAR, static"].tokens == 3 * 2 * 88
    assert all(0 <= arm.seconds and 0 <= arm.numbers["exact match"] <= 1 for arm in arms.values())


def test_forwards_are_counted_with_commits_fused_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(additions._DOCUMENTS, "train", 60)
    numbers = check(lambda _: None, budget=TINY).arms["SDAR, static"].numbers
    # nothing stops an untrained model: 34 new tokens behind 8 are 9 blocks of 4 steps (2 in the last), 9 commits apart
    fused, apart = numbers["tokens per forward"], numbers["tokens per forward, commits counted apart"]
    assert fused > apart and fused / apart == pytest.approx((9 * 4 + 9) / (9 * 4), abs=0.05)
