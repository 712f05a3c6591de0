"""Rows that are held to constraints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from ..constraints import Automaton, Stretch, Window, stretch
from ..errors import SettingError
from ..grid import Levels, Move, Schedule, walk
from ..processes import Process

__all__ = ["Held"]


class Held:
    """What constraints govern of the rows of a walk.

    Raises ``SettingError`` for what cannot be held to a constraint, and for a constraint that cannot be met.
    """

    def __init__(self, process: Process, schedule: Schedule, vocabulary: int) -> None:
        self.process, self.schedule, self.vocabulary = process, schedule, vocabulary
        self.stretches: dict[int, Stretch] = {}

    def add(
        self,
        number: int,
        one: Automaton | None,
        prompt: Tensor,
        length: int,
        stop: tuple[int, ...],
        levels: Levels,
        who: str,
    ) -> None:
        """Hold row ``number`` to a constraint; None holds it to nothing. ``who``: the row in words."""
        self.stretches.pop(number, None)
        if one is not None:
            _fits(one, self.process, self.vocabulary, who)
            _in_order(self.schedule, levels)
            self.stretches[number] = stretch(one, prompt, length, stop, who)

    def windows(
        self, moves: Sequence[tuple[int, int, Move]], content: Tensor, places: Sequence[tuple[int, int]], cells: int
    ) -> list[Window | None]:
        """Windows of ``cells`` tokens at places (row, first token) of the content; none where no row is held.

        moves: (row, its first unit that is not clean, move) of all rows.
        """
        if not self.stretches:
            return []
        for number, first, move in moves:
            if number in self.stretches:
                _check(move, first)
        return [
            self.stretches[number].window(content[number], start, cells) if number in self.stretches else None
            for number, start in places
        ]


def _fits(automaton: Automaton, process: Process, vocabulary: int, who: str) -> None:
    mask_id = getattr(process, "mask_id", -1)
    if not vocabulary or process.open(torch.tensor([[int(mask_id == 0)]])).any():
        raise SettingError("a constraint governs tokens that stay once they are fixed; this process may change them")
    if len(automaton.symbols) != vocabulary:
        raise SettingError(
            f"{who}: the constraint knows {len(automaton.symbols)} tokens, the network {vocabulary}; make it for the "
            "network's vocabulary"
        )
    if mask_id >= 0 and automaton.symbols[mask_id]:
        raise SettingError(f"{who}: the constraint lets the mask stand in a text; make its vocabulary without the mask")


def _in_order(schedule: Schedule, levels: Levels) -> None:
    """Refuse a path that will leave the order, before its first forward."""
    path = walk(schedule, len(levels), levels.prompt)
    for before, move in islice(path, 1):
        _check(move, before.frontier())
        # if it ever does, then before its first unit has had all its steps
        for later, further in islice(path, 2 * move.of):
            _check(further, later.frontier())


def _check(move: Move, first: int) -> None:
    """Refuse a move of units before which not all is known; ``first``: the first unit that is not."""
    if min(move.units) > first or (len(move.units) > 1 and not move.together):
        raise SettingError(
            "a constraint can be held only where all before the live unit is known, which this path does not keep; "
            "take unit after unit (block-by-block, behind-prompt, streaming), or leave the constraint out"
        )
