"""The contract of a reveal rule, and the ranking that several rules share."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from ..sampling import Candidates, top

__all__ = ["Proposal", "Reveal", "top"]


@dataclass(frozen=True)
class Proposal:
    """The candidates of m units, and where on the path these are.

    open: boolean [m, size], the tokens still masked. drawn: their candidates, one for every open token. quota: int64
    [m], how many tokens the pace asks for in this step. step: int64 [m], which of the unit's ``of`` steps this is.
    draw: the noise of the units, for rules that leave something to chance. key: what a score is ranked by.

    token int64, confidence, entropy and margin float, [m, size]: of the candidates, 0 where nothing is open. uniform
    float [m, size]: numbers in [0, 1) for the rule alone. Each is computed for the first rule that asks for it: over a
    large vocabulary an entropy costs more than the rule.
    """

    open: Tensor
    drawn: Candidates
    quota: Tensor
    step: Tensor
    of: int
    draw: Callable[..., Tensor] | None = None
    key: Callable[[Tensor], Tensor] | None = None

    @cached_property
    def token(self) -> Tensor:
        return self._spread(self.drawn.token)

    @cached_property
    def confidence(self) -> Tensor:
        return self._spread(self.drawn.confidence)

    @cached_property
    def entropy(self) -> Tensor:
        return self._spread(self.drawn.entropy)

    @cached_property
    def margin(self) -> Tensor:
        return self._spread(self.drawn.margin)

    @cached_property
    def uniform(self) -> Tensor:
        assert self.draw is not None
        return self.draw("order", self.open.shape[1])

    def top(self, score: Tensor, count: Tensor) -> Tensor:
        """The ``count[i]`` open tokens of highest score in unit i, boolean [m, size]: how a rule takes the best."""
        return top(self.open, score if self.key is None else self.key(score), count)

    def ranked(self, key: Callable[[Tensor], Tensor]) -> Proposal:
        """The same with scores ranked by another key, float [m, size] -> float [m, size]."""
        return self._but(key=key)

    def trusted(self, confidence: Tensor) -> Proposal:
        """The same with other confidences, float [m, size]."""
        return self._but(confidence=confidence)

    def _but(self, **changes: Any) -> Proposal:
        """The same but for some of it; what was computed stays, and what would be computed can be given."""
        other = copy(self)
        other.__dict__.update(changes)
        return other

    def _spread(self, values: Tensor) -> Tensor:
        if len(values) == self.open.numel():
            return values.view(self.open.shape)
        return values.new_zeros(self.open.shape).masked_scatter_(self.open, values)


class Reveal(Protocol):
    """Which open tokens are fixed now: proposal -> boolean [m, size].

    A rule fixes at least one open token of a unit that has any, unless the quota that it goes by is 0 or it leaves the
    number to chance, and never one that is not open.
    """

    def __call__(self, proposal: Proposal) -> Tensor: ...
