"""The grid: units x levels, the moves over it, and the noise that belongs to its points.

A sample is a row of *units*. Every unit has a noise *level* from 1 (nothing known) to 0 (clean). To generate is
to walk from all-ones to all-zeros; a *schedule* is a pure function from the current levels to the next move.
This file knows numbers only: no networks, no loops, and nothing above it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .compiled import compiled
from .errors import SettingError

if TYPE_CHECKING:
    import torch

__all__ = ["Levels", "Move", "Noise", "Schedule", "lifted", "quotas", "times", "walk"]


@dataclass
class Levels:
    """Where every unit of one row stands: its noise level, and how many moves it has had.

    ``value[u]`` in [0, 1] is the noise that unit ``u`` still holds (for an absorbing mask: the share of its
    tokens that are still masked); ``visits[u]`` counts the moves that it has taken, so that a schedule of fixed
    steps needs no state of its own. ``prompt``: how many units, from the first, were clean at the start; ``past``: how
    many of them were when the last move was made, so that its forward could commit them.

    >>> Levels.start(3)
    Levels(value=array([1., 1., 1.]), visits=array([0, 0, 0]), prompt=0, past=0)
    """

    value: np.ndarray
    visits: np.ndarray
    prompt: int = 0
    past: int = 0

    @classmethod
    def start(cls, units: int, clean: int = 0) -> Levels:
        """All noise, except the first ``clean`` units (a prompt)."""
        value = np.ones(units)
        value[:clean] = 0.0
        return cls(value, np.zeros(units, dtype=np.int64), clean, clean)

    def __len__(self) -> int:
        return len(self.value)

    def frontier(self, start: int = 0) -> int:
        """Index of the first unit that is not clean, from ``start`` on; ``len(self)`` if all are clean."""
        for near in range(start, min(start + 2, len(self.value))):
            if self.value[near] > 0.0:
                return near  # this unit or the next one: the common case, whatever the length of the row
        rest = self.value[start:] > 0.0
        first = int(rest.argmax()) if len(rest) else 0
        return start + first if len(rest) and rest[first] else len(self)


@dataclass(frozen=True)
class Move:
    """The next step on the path: which units get cleaner, and which of their ``of`` steps it is.

    ``step[i]`` in ``0..of-1`` is the step that ``units[i]`` takes now; after it the unit's nominal level is
    ``to[i] = 1 - (step[i] + 1) / of``. A process may arrive lower (adaptive decoding); it reports the level that
    the unit really reached.

    ``blind``: the units are not shown to the network; only what the past alone says of their first tokens is used
    (by processes that predict a token at the one before it). ``together``: the units are neighbours, and a process
    decides on their tokens as on those of a single unit, a window of so many units of which the row's end may leave
    fewer; some of them may be clean already. 0: every unit by itself. ``within``: the steps of these units, from the
    first to behind the last, where the ``of`` steps are those of several blocks one after the other; None: all of them.
    ``whole``: patterns read all of these units as noisy, and no memory takes any, until every one of them is clean, as
    if they were one: a block that may begin anywhere. False: each is past as soon as it and all before it are clean.
    """

    units: tuple[int, ...]
    step: tuple[int, ...]
    of: int
    blind: bool = False
    together: int = 0
    within: tuple[int, int] | None = field(default=None, repr=False)
    whole: bool = field(default=False, repr=False)

    @property
    def to(self) -> tuple[float, ...]:
        return self._level(1)

    @property
    def frm(self) -> tuple[float, ...]:
        return self._level(0)

    def _level(self, taken: int) -> tuple[float, ...]:
        first, end = self.within or (0, self.of)
        return tuple(1.0 - (s + taken - first) / (end - first) for s in self.step)


class Schedule(Protocol):
    """A path over the grid: a pure function from the current levels to the next move (``None``: arrived).

    ``start`` is a hint: every unit before it is known to be clean, so that long rows need no rescan.
    """

    def __call__(self, levels: Levels, start: int = 0) -> Move | None: ...


def walk(schedule: Schedule, units: int, clean: int = 0, limit: int = 100_000) -> Iterator[tuple[Levels, Move]]:
    """Every (levels, move) of the path that a schedule takes when each move arrives exactly where it aims.

    This is how a path is printed, drawn and tested without a network. Raises ``SettingError`` when the path does
    not arrive within ``limit`` moves.
    """
    levels = Levels.start(units, clean)
    for _ in range(limit):
        move = schedule(levels)
        if move is None:
            return
        yield Levels(levels.value.copy(), levels.visits.copy(), clean, levels.past), move
        levels.past = levels.frontier()
        index = list(move.units)
        levels.value[index] = move.to
        levels.visits[index] += 1
    raise SettingError(f"the path has not arrived after {limit} moves; check the schedule's settings")


def quotas(size: int, steps: int) -> list[int]:
    """``size`` tokens over ``steps`` steps as evenly as possible, the earlier steps taking the extra one.

    >>> quotas(4, 4), quotas(8, 3), quotas(8, 5)
    ([1, 1, 1, 1], [3, 3, 2], [2, 2, 2, 1, 1])
    """
    return [size // steps + (s < size % steps) for s in range(steps)]


def lifted(step: torch.Tensor, of: int, eps: float) -> torch.Tensor:
    """1 - s / t, the chance that a mask of the absorbing process at time t is lifted by time s; 1 in the last step.

    step: int64 [m] in 0..of-1, from t = times[step] to s = times[step + 1] on an even grid of times from 1 to ``eps``.

    >>> import torch
    >>> lifted(torch.tensor([0, 1, 2, 3]), 4, eps=0.2)
    tensor([0.2000, 0.2500, 0.3333, 1.0000])
    """
    at = times(of, eps).to(step.device)
    return (1 - at[step + 1] / at[step]).where(step < of - 1, 1.0)


def times(of: int, eps: float) -> torch.Tensor:
    """An even grid of times from 1 to ``eps``, of ``of`` steps, float32 [of + 1].

    Raises ``SettingError`` for an ``eps`` that is none.
    """
    import torch

    if not 0 <= eps < 1:
        raise SettingError(f"eps is {eps}; pass the time at which the path ends, 0 or a little more")
    return torch.linspace(1, eps, of + 1)


_POINT = struct.Struct("<qqqq").pack
_FILLS: dict[str, Callable[[torch.Tensor, torch.Generator, int], object]] = {
    "uniform": lambda x, generator, _: x.uniform_(generator=generator),
    "normal": lambda x, generator, _: x.normal_(generator=generator),
    "token": lambda x, generator, vocabulary: x.random_(0, vocabulary, generator=generator),
    "order": lambda x, generator, _: x.uniform_(generator=generator),
}
_USES = {kind: number for number, kind in enumerate(_FILLS)}
_FEW = 227
"""Numbers of a point up to which compiled code makes them."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled source, or None where nothing can be compiled."""
    found = compiled(Path(__file__).with_suffix(".cpp"))
    if found is not None:
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        found.interlace_noise.argtypes = [pointer, size, size, size, pointer]
        found.interlace_noise.restype = None
    return found


@dataclass
class Noise:
    """Random numbers indexed by (seed, unit, step), never by the order of calls.

    Every order of moves that respects the dependencies, batched or alone, cached or not, therefore draws the same
    numbers. One ``seed`` per row; rows with equal seeds draw equal numbers. ``device`` is where the numbers go;
    they are always drawn on the CPU, so that a seed means the same on every device. ``vocabulary``: how many tokens
    there are to draw from.

    >>> a = Noise((7,)).uniform([0], [3], [0], (2,)); b = Noise((1, 7)).uniform([1], [3], [0], (2,))
    >>> bool((a == b).all())
    True
    """

    seeds: Sequence[int]
    device: torch.device | str = "cpu"
    vocabulary: int = 0
    _generator: torch.Generator | None = field(default=None, repr=False)

    def _draw(
        self, kind: str, rows: Sequence[int], units: Sequence[int], steps: Sequence[int], shape: tuple[int, ...]
    ) -> torch.Tensor:
        import torch

        span, fill, use = self.vocabulary, _FILLS[kind], _USES[kind]
        drawn = torch.empty((len(rows), *shape), dtype=torch.long if kind == "token" else torch.float32)
        few = kind != "normal" and math.prod(shape) <= _FEW and (kind != "token" or 0 < span <= 2**24)
        if few and (native := library()) is not None:
            points = np.empty((len(rows), 4), dtype=np.int64)
            points[:, 0], points[:, 1] = [self.seeds[row] for row in rows], units
            points[:, 2], points[:, 3] = steps, use
            native.interlace_noise(
                points.ctypes.data, len(rows), math.prod(shape), span if kind == "token" else 0, drawn.data_ptr()
            )
            return drawn.to(self.device)
        if self._generator is None:
            self._generator = torch.Generator()
        generator = self._generator
        # filled in place: units may be single tokens, and then a tensor each would cost more than its number
        for one, row, unit, step in zip(drawn.unbind(0), rows, units, steps, strict=True):
            digest = hashlib.blake2b(_POINT(self.seeds[row], unit, step, use), digest_size=8).digest()
            generator.manual_seed(int.from_bytes(digest, "little") >> 1)
            fill(one, generator, span)
        return drawn.to(self.device)

    def uniform(
        self, rows: Sequence[int], units: Sequence[int], steps: Sequence[int], shape: tuple[int, ...]
    ) -> torch.Tensor:
        """Uniform numbers in [0, 1), float32 [len(rows), *shape], one draw per (row, unit, step)."""
        return self._draw("uniform", rows, units, steps, shape)

    def token(
        self, rows: Sequence[int], units: Sequence[int], steps: Sequence[int], shape: tuple[int, ...]
    ) -> torch.Tensor:
        """Tokens of the vocabulary, each as likely as any other, int64 [len(rows), *shape]."""
        return self._draw("token", rows, units, steps, shape)

    def order(
        self, rows: Sequence[int], units: Sequence[int], steps: Sequence[int], shape: tuple[int, ...]
    ) -> torch.Tensor:
        """Uniform numbers that say which tokens are fixed, as those of ``uniform`` say what they are; neither tells of
        the other."""
        return self._draw("order", rows, units, steps, shape)

    def normal(
        self, rows: Sequence[int], units: Sequence[int], steps: Sequence[int], shape: tuple[int, ...]
    ) -> torch.Tensor:
        """Standard normal numbers, float32 [len(rows), *shape], one draw per (row, unit, step)."""
        return self._draw("normal", rows, units, steps, shape)
