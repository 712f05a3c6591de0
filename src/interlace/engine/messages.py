"""What an engine's process and its parent say to each other: plain values, pickled on a pipe that they alone share.

Pickles are read from nowhere else: a pipe has two ends, and this program holds both. Tensors travel as arrays, for
those of PyTorch would share memory between the processes, which a process that is killed leaves in disorder.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import errors
from ..constraints import Automaton
from ..errors import EngineError
from ..generation import Event
from .engine import Stats
from .preparing import Prepared
from .request import Request

if TYPE_CHECKING:
    from ..model import Model

__all__ = [
    "Add", "Allow", "Close", "Drop", "Message", "Opened", "Refused", "Told", "error", "event", "receive", "refused",
    "send", "unpacked",
]  # fmt: skip


@dataclass(frozen=True)
class Add:
    """To the engine: a request, under this number; its places as an array; how many events it may give at first.
    automaton: its constraint's, unless the engine has it."""

    number: int
    request: Request
    places: np.ndarray | None
    allowed: int | None = None
    automaton: Automaton | None = None

    @classmethod
    def of(cls, number: int, prepared: Prepared, allowed: int | None = None, known: bool = False) -> Add:
        """known: the engine has been given the automaton."""
        request = prepared.request
        places = None if request.places is None else request.places.numpy()
        plain = replace(
            request, prompt=tuple(prepared.known.tolist()), settings=dict(request.settings), bias=dict(request.bias),
            places=None,
        )  # fmt: skip
        return cls(number, plain, places, allowed, None if known else prepared.automaton)

    def asked(self, model: Model) -> Request:
        """The request, as it was; what was worked out of its constraint need not be again."""
        constraint = self.request.constraint
        if constraint is not None and self.automaton is not None:
            constraint.keep(model.words, self.automaton)
        return self.request if self.places is None else replace(self.request, places=torch.tensor(self.places))


@dataclass(frozen=True)
class Allow:
    """To the engine: this request may give so many events, counted from its first."""

    number: int
    allowed: int


@dataclass(frozen=True)
class Drop:
    """To the engine: nobody wants this request any more."""

    number: int


@dataclass(frozen=True)
class Close:
    """To the engine: end."""


@dataclass(frozen=True)
class Opened:
    """From the engine: it is ready, and how large it is."""

    stats: Stats
    page: int
    rows: int
    waiting: int


@dataclass(frozen=True)
class Refused:
    """From the engine: the error by which it could not begin, or by which a request ends."""

    kind: str
    text: str


@dataclass(frozen=True)
class Told:
    """From the engine: what a move found, by the numbers of requests."""

    found: list[tuple[int, tuple[Any, ...] | Refused]]
    stats: Stats


Message = Add | Allow | Close | Drop | Opened | Refused | Told
FIELDS = tuple(one.name for one in fields(Event) if one.name != "row")


def send(pipe: Connection, message: Message) -> None:
    pipe.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def receive(pipe: Connection) -> Message:
    """``EOFError`` or ``OSError`` when there is nobody at the other end."""
    found: Message = pickle.loads(pipe.recv_bytes())
    return found


def event(one: Event) -> tuple[Any, ...]:
    """An event but for its row, as it travels."""
    return tuple(_plain(getattr(one, name)) for name in FIELDS)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def unpacked(row: int, values: tuple[Any, ...]) -> Event:
    """The event of a row, from what has travelled."""
    return Event(row, **{name: _tensors(value) for name, value in zip(FIELDS, values, strict=True)})


def _tensors(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_tensors, value))
    return torch.tensor(value) if isinstance(value, np.ndarray) else value  # a copy: what has travelled may be fixed


def refused(problem: Exception) -> Refused:
    """An error, as it travels."""
    return Refused(type(problem).__name__, str(problem))


def error(one: Refused) -> Exception:
    """The error that has travelled."""
    kind = getattr(errors, one.kind, None)
    known = isinstance(kind, type) and issubclass(kind, errors.InterlaceError)
    return kind(one.text) if known else EngineError(one.text)  # type: ignore[misc]
