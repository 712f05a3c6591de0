"""What can be seen of a request before it begins; the weights are not needed for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..constraints import Automaton
from ..errors import SettingError
from ..generation import Walk, WalkAhead
from ..processes import Biased

if TYPE_CHECKING:
    from ..model import Model
    from ..nn import TransformerConfig
    from ..systems import Parts
    from .request import Request

__all__ = ["Prepared", "prepared", "walk_of"]


@dataclass(frozen=True)
class Prepared:
    """A request that was found possible: its parts, what its rows can share a walk with, and its constraint."""

    request: Request
    parts: Parts
    path: tuple[Any, ...]
    known: Tensor
    stop: tuple[int, ...]
    cells: int
    automaton: Automaton | None


@dataclass(frozen=True)
class _Shape:
    """All that a walk asks of a network before its first step, in the memory of the processor."""

    config: TransformerConfig

    def parameters(self) -> Iterator[Tensor]:
        yield torch.empty(0)


def prepared(model: Model, request: Request, slots: int) -> Prepared:
    """Everything about a request that can be seen at once. slots: tokens that the memory of the engine can hold.

    Raises ``SettingError`` for one that cannot be generated.
    """
    model = (model if request.system is None else model.under(request.system)).with_(**request.settings)
    parts, config = model.parts, model.checkpoint.config
    stop = model.checkpoint.stop_token_ids if request.stop is None else request.stop
    bias = tuple(sorted(request.bias.items()))
    path = model.system.name, model.settings.model_dump_json(), request.details, request.drafts, request.top, bias
    vocabulary = config.vocab_size
    if bias and not 0 <= bias[0][0] <= bias[-1][0] < vocabulary:
        raise SettingError(f"a bias is for a token outside of 0 to {vocabulary - 1}; leave it out")
    if not 0 <= request.top <= vocabulary:
        raise SettingError(f"top is {request.top}; pass 0 to {vocabulary}")
    walk = walk_of(_Shape(config), parts, request)
    known = walk.known(request.prompt)
    cells = walk.needs(known, request.length)
    if cells + walk.extra > slots:
        raise SettingError(
            f"the request needs {cells + walk.extra} tokens of memory, the engine has {slots}; shorten it, or give the "
            "engine more"
        )
    automaton = model.automata([request.constraint])[0]
    if automaton is not None or request.places is not None:
        walk.add(known, request.length, 0, None, tuple(stop), request.places, automaton)
    return Prepared(request, parts, path, known, tuple(stop), cells, automaton)


def walk_of(network: Any, parts: Parts, request: Request) -> Walk:
    """The walk that a request takes."""
    given = parts.sampling
    lookahead = given.pop("lookahead")
    given.pop("memory")
    given |= {"drafts": request.drafts, "details": request.details, "top": request.top}
    if request.bias:
        tokens, amounts = zip(*sorted(request.bias.items()), strict=True)
        given["process"] = Biased(given["process"], tokens, amounts)
    return Walk(network, **given) if lookahead is None else WalkAhead(lookahead, network, **given)
