"""A process under constraints: what a step may say, in what order tokens are taken, and what stays open."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interlace.constraints import Window, compiled, lifted
from interlace.processes import AbsorbingMask, Constrained, ConstrainedDrafts, NextToken, Speculative, Turn
from interlace.reveal import Threshold

A, B, C, MASK = range(4)
WORDS = [b"a", b"b", b"c", b""]


def window(pattern: str, count: int, first: int = 0, left: int = 0) -> Window:
    automaton = lifted(compiled(pattern), WORDS)
    return Window(automaton, automaton.start, first, count, left)


def advanced(process: Any, x: list[list[int]], said: list[Any], **turn: Any) -> Any:
    def draw(kind: str, *shape: int) -> Tensor:
        return torch.full((len(x), *shape), 0.5)

    prediction = torch.tensor(said)
    return process.advance(torch.tensor(x), prediction, Turn(torch.zeros(len(x), dtype=torch.long), 4, draw, **turn))


def test_a_confidence_is_that_among_the_allowed() -> None:
    process = AbsorbingMask(MASK, Threshold(0.7))
    said = [[9.0, 1.0, 0.0, 5.0]] * 2  # a, by far; but of the pattern a stands nowhere
    after = advanced(Constrained(process, [window("[bc]{2}", 2)]), [[MASK, MASK]], said)
    assert after.x.tolist() == [[B, B]] and process.level(after.x).tolist() == [0.0]
    expected = torch.tensor([1.0, 0.0]).softmax(0)[0].log()
    torch.testing.assert_close(after.log_prob, expected.expand(1, 2))


def test_the_most_confident_come_first_and_what_does_not_fit_them_stays_open() -> None:
    """ab or ba: the second says a more surely than the first, which would say a too."""
    process = AbsorbingMask(MASK, Threshold(0.0))
    for sure, expected in ((4.0, [MASK, A]), (1.0, [A, MASK])):
        said = [[2.0, 0.0, 0.0, 0.0], [sure, 0.0, 0.0, 0.0]]
        after = advanced(Constrained(process, [window("ab|ba", 2)]), [[MASK, MASK]], said)
        assert after.x.tolist() == [expected] and process.level(after.x).tolist() == [0.5]
        assert [float(one) < 0 for one in after.log_prob[0]] == [one != MASK for one in expected]


def test_units_are_held_each_to_its_own_and_cells_outside_are_free() -> None:
    process = AbsorbingMask(MASK, Threshold(0.0))
    said = [[3.0, 2.0, 1.0, 0.0]] * 8
    windows = [window("c{3}", 3), None, window("bc", 2, first=1)]
    after = advanced(Constrained(process, windows), [[MASK] * 3, [MASK, B, MASK], [MASK] * 3], said)
    assert after.x.tolist() == [[C, C, C], [A, B, A], [A, B, C]]


def test_only_what_is_wanted_is_fixed_and_the_rest_still_counts_as_open() -> None:
    wanted = torch.tensor([[True, False]])
    after = advanced(
        Constrained(AbsorbingMask(MASK, Threshold(0.0)), [window("ab|cc", 2)]), [[MASK, MASK]], [[0.0, 9.0, 1.0, 0.0]],
        wanted=wanted,
    )  # fmt: skip
    assert after.x.tolist() == [[C, MASK]]


def test_log_probabilities_are_kept_from_whoever_does_not_want_them() -> None:
    for details in (True, False):
        after = advanced(Constrained(NextToken(), [window("b", 1)]), [[-1]], [[9.0, 0.0, 0.0, 0.0]], details=details)
        assert after.x.tolist() == [[B]] and (after.log_prob is not None) == details


def test_what_follows_a_draft_supposes_it() -> None:
    """The draft a is right, so b must follow, and the drafts behind are those of the branch that knows a."""
    process = Speculative(MASK, 2)
    said = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).expand(1, 6, 4).tolist()  # a, b, c, everywhere
    carry = torch.tensor([[A, MASK, MASK]])
    held = ConstrainedDrafts(process, [window("(ab|ba)*", 3, left=1)])
    after = advanced(held, [[MASK] * 3], said, carry=carry)
    assert after.x.tolist() == [[A, B, MASK]]
    assert after.carry.tolist() == [[MASK, MASK, A]]
    free = advanced(process, [[MASK] * 3], said, carry=carry)
    assert free.x.tolist() == [[A, A, MASK]]


def test_a_wrong_draft_is_proved_wrong() -> None:
    said = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).expand(1, 6, 4).tolist()
    held = ConstrainedDrafts(Speculative(MASK, 2), [window("b[abc]*", 3, left=1)])
    after = advanced(held, [[MASK] * 3], said, carry=torch.tensor([[A, MASK, MASK]]))
    assert after.x.tolist() == [[B, MASK, MASK]] and torch.isfinite(after.log_prob).all()
