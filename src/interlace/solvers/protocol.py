"""The contract of a solver."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["Solver", "Span"]


class Span(NamedTuple):
    """The step's two ends on the path x = alpha * clean + sigma * noise; tensors that broadcast against x.

    before_alpha, before_sigma: the end of the previous step's *start* (where ``carry`` was predicted).
    first: true where the unit takes its first step, so that there is no history.
    """

    alpha: Tensor
    sigma: Tensor
    to_alpha: Tensor
    to_sigma: Tensor
    before_alpha: Tensor
    before_sigma: Tensor
    first: Tensor


class Solver(Protocol):
    """x at the cleaner end: (x, predicted clean, span, normal noise, carry) -> (x, carry).

    ``carry`` is what the solver remembers of the unit's previous step, a tensor shaped like x, or None. Solvers are
    functions of the path's coefficients alone, so each serves every Gaussian path (variance preserving or flow).
    """

    stochastic: bool

    def __call__(
        self, x: Tensor, clean: Tensor, span: Span, noise: Tensor | None, carry: Tensor | None
    ) -> tuple[Tensor, Tensor | None]: ...
