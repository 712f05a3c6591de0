"""The contract of a process: one half is used in training (corrupt, loss), the other in sampling (prior, advance)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["Advanced", "Draw", "Process", "Turn"]

Draw = Callable[..., Tensor]
"""``draw(kind, *shape)``: noise that belongs to the units being advanced, [m, *shape], of kind "uniform" (in [0, 1)),
"normal", "token" (of the network's vocabulary) or "order" (uniform too: which tokens are fixed). Of one kind it gives
the same numbers again, so a step that needs several asks for them at once."""


class Turn(NamedTuple):
    """Where m units are on their path, and what a step is given besides the prediction.

    step: int64 [m] in 0..of-1. draw: their noise. carry [m, size, ...]: what the step before left, None at first.
    details: whether the log-probabilities of the tokens are wanted. wanted: boolean [m, size], the open tokens that are
    predicted, when those are not all; the others stay as they are. top: so many of the likeliest tokens are wanted too.
    """

    step: Tensor
    of: int
    draw: Draw
    carry: Tensor | None = None
    details: bool = True
    wanted: Tensor | None = None
    top: int = 0


class Advanced(NamedTuple):
    """Units after a step. x [m, size, ...]; level float [m], really reached, or None: the share of its tokens that are
    still open; log_prob [m, size] of the tokens fixed now (0 elsewhere), or None; carry [m, size, ...]: what a
    multistep solver remembers, or None; top: the likeliest tokens of what was predicted and their log-probabilities,
    both [m, size, k], or None."""

    x: Tensor
    level: Tensor | None = None
    log_prob: Tensor | None = None
    carry: Tensor | None = None
    top: tuple[Tensor, Tensor] | None = None


class Process(Protocol):
    """How a unit gets noisier in training, and cleaner in sampling.

    shift: where the prediction of a token is read: 0, at the token; 1, at the token before it (next token).
    feeds_draft: whether the network is shown the noisy unit at all (next token: it is not).
    conditioned: whether the network is told the level.
    noise: kind of the noise that ``corrupt`` takes: "uniform"; "normal"; or "token", a number in [0, vocabulary) whose
    whole part is a random token and whose fraction a uniform number of its own.
    """

    @property
    def shift(self) -> int: ...

    @property
    def feeds_draft(self) -> bool: ...

    @property
    def conditioned(self) -> bool: ...

    @property
    def noise(self) -> str: ...

    def corrupt(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """The clean values at a noise level: clean [rows, n, ...], level [rows, n], noise [rows, n, ...]."""
        ...

    def learns(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """The tokens whose prediction carries a loss, boolean [..., n]."""
        ...

    def loss(self, prediction: Tensor, clean: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        """Weighted loss of every learnt token, float [m]; prediction [m, ...], the others [m, ...], level [m]."""
        ...

    def prior(self, draw: Draw, m: int, *shape: int) -> Tensor:
        """Units of which nothing is known, [m, *shape]."""
        ...

    def shown(self, x: Tensor) -> Tensor:
        """Content as the network reads it, [...]."""
        ...

    def level(self, x: Tensor) -> Tensor:
        """Level of units that are partly known from the start, float [m]."""
        ...

    def open(self, x: Tensor) -> Tensor:
        """Where a prediction is wanted, boolean [m, size]."""
        ...

    def advance(self, x: Tensor, prediction: Tensor, turn: Turn) -> Advanced:
        """One step: x [m, size, ...], prediction of the open tokens [number open, ...]."""
        ...
