"""A process that is held to constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..constraints import OPEN, Window
from .protocol import Advanced, Process, Turn

__all__ = ["Constrained", "ConstrainedDrafts"]


@dataclass(frozen=True)
class Constrained:
    """One step of a process, after which every unit can still become a text of its constraint.

    An open token may only be one with which the other open ones can be filled (``Automaton.allowed``); all others get
    no probability. So a confidence is that among the allowed tokens, and a forced token is certain. Tokens that are
    fixed in the same step must also fit each other: they are taken one by one, the most confident first, and one that
    does not fit those before it stays open until the next step, which knows them. The first one always fits, so a step
    that fixes any token fixes at least one.

    Args:
        process: of tokens; what it has fixed it never changes.
        windows: of every unit that takes the step, None where it is free.

    DINGO (arXiv:2505.23061) walks the same automaton for the likeliest text of a whole block; here the reveal rule
    still says how many tokens a step fixes.
    """

    process: Process
    windows: Sequence[Window | None]

    def advance(self, x: Tensor, prediction: Tensor, turn: Turn) -> Advanced:
        open = self.process.open(x)
        known = x.masked_fill(open, OPEN).cpu().numpy()
        wanted = (open if turn.wanted is None else turn.wanted).cpu().numpy()
        held = [(unit, window) for unit, window in enumerate(self.windows) if window is not None]
        prediction = prediction.float()
        every = prediction.view(-1, prediction.shape[-1])
        ends = np.cumsum([self._count(one) for one in wanted])
        for unit, window in held:
            allowed = self._allowed(window, known[unit], wanted[unit], unit, turn)
            mine = every[ends[unit] - len(allowed) : ends[unit]]
            mine.masked_fill_(~window.spread(allowed, mine.device), float("-inf"))
        after = self.process.advance(x, prediction, turn._replace(details=True))
        assert after.log_prob is not None
        now = after.x.cpu().numpy()
        fixed = (open & ~self.process.open(after.x)).cpu().numpy()
        likely = after.log_prob.cpu().numpy()
        late = np.zeros_like(fixed)
        for unit, window in held:
            late[unit] = _misfits(window, known[unit], now[unit], fixed[unit], likely[unit])
        if late.any():
            again = torch.from_numpy(late).to(x.device)
            x = x.where(again, after.x)
            after = after._replace(x=x, level=None, log_prob=after.log_prob.masked_fill(again, 0.0))
        return after if turn.details else after._replace(log_prob=None)

    def _count(self, wanted: np.ndarray) -> int:
        """How many predictions a unit has."""
        return int(wanted.sum())

    def _allowed(self, window: Window, known: np.ndarray, wanted: np.ndarray, unit: int, turn: Turn) -> np.ndarray:
        """bool [predictions, symbols]: what each prediction of a unit may say."""
        return window.allowed(known)[wanted]


@dataclass(frozen=True)
class ConstrainedDrafts(Constrained):
    """The same for ``Speculative``, whose predictions suppose that so many drafts are right.

    The token behind r drafts, and the drafts of the branch behind them, are held to what may follow these drafts. So
    the text is that of next-token prediction under the constraint. A draft that does not fit is proved wrong by its
    verification; what is said behind it is read by nobody.
    """

    @property
    def size(self) -> int:
        """K: drafts, and branches."""
        size: int = self.process.size  # type: ignore[attr-defined]
        return size

    def _count(self, wanted: np.ndarray) -> int:
        return self.size + self.size**2

    def _allowed(self, window: Window, known: np.ndarray, wanted: np.ndarray, unit: int, turn: Turn) -> np.ndarray:
        branches = []
        for right in range(self.size):
            supposed = known.copy()
            if turn.carry is not None:
                drafts = turn.carry[unit, :right]
                supposed[:right] = drafts.masked_fill(self.process.open(drafts), OPEN).cpu().numpy()
            branches.append(window.allowed(supposed)[right : right + self.size])
        return np.concatenate([np.stack([branch[0] for branch in branches]), *branches])


def _misfits(window: Window, known: np.ndarray, now: np.ndarray, fixed: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """The tokens that do not fit more confident ones of the same step: bool [cells]."""
    late = np.zeros_like(fixed)
    if window.possible(np.where(fixed, now, known)):
        return late
    known = known.copy()
    places = np.flatnonzero(fixed)
    for place in places[np.argsort(-likely[places], kind="stable")]:
        known[place] = now[place]
        if not window.possible(known):
            known[place], late[place] = OPEN, True
    return late
