"""What a generation yields: units as they become clean, and the finished rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["OPEN", "Event", "Result", "collect"]

OPEN = -1
"""In a prompt: a token that is not known and shall be generated (infilling)."""


@dataclass(frozen=True)
class Event:
    """One unit of one row, after a step of the path.

    content: its tokens int64 [size] (a token still open is ``OPEN``), or features [size, d]. start: place of its first
    token in the row. clean: whether it is finished; otherwise it is a draft. level: what noise is left. log_prob: of
    its tokens when they were fixed (text; on request). order: at which of the unit's steps each token was fixed.
    top: the likeliest tokens and their log-probabilities [size, k] when each was fixed (on request, by an engine).
    forwards: how many forwards the row has taken so far, and slots: how many tokens these were given of it. last:
    whether this event ends the row. widest: how many of these tokens the first forward was given, which reads the
    prompt, and the most that a later one was. cached: tokens of its prompt that an engine found in memory; waited:
    seconds that it waited for its turn there.
    """

    row: int
    unit: int
    start: int
    content: Tensor
    clean: bool
    level: float
    forwards: int
    last: bool = False
    slots: int = 0
    log_prob: Tensor | None = None
    order: Tensor | None = None
    top: tuple[Tensor, Tensor] | None = None
    widest: tuple[int, int] = 0, 0
    cached: int = 0
    waited: float = 0.0


@dataclass
class Result:
    """A finished row: what was generated behind the prompt, up to the length or the first stop token (not included).

    content: the new tokens, or all features. row: everything, prompt included. forwards: network calls that the row
    took part in. stopped: whether a stop token ended it. slots: tokens that these calls were given of the row, the
    prompt included. widest: how many of them the first call was given, which reads the prompt, and the most that a
    later one was.
    """

    content: Tensor
    row: Tensor
    forwards: int
    stopped: bool = False
    log_prob: Tensor | None = None
    order: Tensor | None = None
    slots: int = 0
    widest: tuple[int, int] = 0, 0

    @property
    def tokens_per_forward(self) -> float:
        return len(self.content) / max(1, self.forwards)


def collect(
    events: Iterator[Event],
    prompts: Sequence[Sequence[int] | Tensor],
    length: int | Sequence[int],
    stop: Sequence[int] = (),
    starts: Sequence[int] | None = None,
) -> list[Result]:
    """Run a stream to its end and return every row: what was generated, cut before the first stop token.

    ``starts``: where the content of every row begins, when that is inside the prompt (infilling); else behind it.
    """
    known = [torch.as_tensor(p) for p in prompts]
    lengths = [length] * len(known) if isinstance(length, int) else list(length)
    pieces: list[list[Event]] = [[] for _ in known]
    for event in events:
        if event.clean:
            pieces[event.row].append(event)
    results = []
    begins = [len(prompt) for prompt in known] if starts is None else starts
    for prompt, more, begin, found in zip(known, lengths, begins, pieces, strict=True):
        shape = (len(prompt) + more, *(found[0].content.shape[1:] if found else prompt.shape[1:]))
        kind = found[0].content if found else prompt
        row = torch.zeros(shape, dtype=kind.dtype)
        details = bool(found) and found[0].log_prob is not None
        log_prob, order = torch.zeros(len(row)), torch.full((len(row),), -1)
        if len(prompt):
            row[: len(prompt)] = prompt.to(row.dtype)
        end = len(prompt) if more else len(row)
        if found:  # units may be single tokens: all of them at once
            cells = [range(event.start, event.start + event.content.shape[0]) for event in found]
            places = torch.tensor([place for one in cells for place in one], dtype=torch.long)
            end = max(end, *(one.stop for one in cells))
            row[places] = torch.cat([event.content for event in found]).cpu()
            if details:
                log_prob[places] = torch.cat([event.log_prob for event in found if event.log_prob is not None]).cpu()
                order[places] = torch.cat([event.order for event in found if event.order is not None]).cpu()
        fresh = row[len(prompt) : end]
        stopped = False
        if stop and fresh.dim() == 1:
            hits = torch.isin(fresh, torch.tensor(list(stop))).nonzero()
            stopped = len(hits) > 0
            end = len(prompt) + int(hits[0]) if stopped else end
        new = slice(begin, end)
        spent = [(event.forwards, event.slots, *event.widest) for event in found]
        forwards, slots, *widest = (max(column) for column in zip(*(spent or [(0, 0, 0, 0)]), strict=True))
        found_log_prob, found_order = (log_prob[new], order[new]) if details else (None, None)
        result = Result(row[new], row[:end], forwards, stopped, found_log_prob, found_order, slots)
        result.widest = (widest[0], widest[1])
        results.append(result)
    return results
