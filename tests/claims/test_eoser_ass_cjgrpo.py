"""The check of EOSER, ASS and CJ-GRPO, from end to end with next to no training."""

from __future__ import annotations

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
    for world, steps in (("sums", 8), ("countdown", 4), ("sudoku", 4)):  # equal forwards, to less than an update
        spent = [forwards[f"{world}, {method}"] for method in METHODS]
        assert spent[0] == 2 * 2 * steps and all(spent[0] - (steps + 1) < n <= spent[0] for n in spent)
    assert all(0 <= arm.numbers[claim.FIRST] <= 1 for name, arm in arms.items() if name in claim.DECODINGS)
