"""Text that a model writes, up to a stop token or a stop text, as it becomes final."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .worlds.tokenizer import TextStream, decode

if TYPE_CHECKING:
    from .generation import Event
    from .model import Model

__all__ = ["OPEN", "Writing", "unwritten", "write"]

OPEN = -1


class Writing:
    """One row, as its events come in, up to a stop token or a stop text.

    prompt: the place at which the new tokens begin. length: how many there are, where known tokens lie behind them.

    tokens, log_probs, order, top: what is final, in order. text: of these tokens; ends: how long it is with each of
    them. told: how much of it has been given away. forwards: so far. stopped: whether a stop ended it. done: nothing
    more comes. end: the place behind the last of them, if that is known.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: int,
        stop_ids: Sequence[int] = (),
        stop_texts: Sequence[str] = (),
        length: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.stop_ids, self.stop_texts = frozenset(stop_ids), tuple(stop_texts)
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self.order: list[int] = []
        self.top: list[tuple[list[int], list[float]]] = []
        self.ends: list[int] = []
        self.text, self.forwards, self.stopped, self.done = "", 0, False, False
        self.told = 0
        self._whole = 0  # tokens that end with a character
        self._next = prompt  # place of the next token that becomes final
        self.end = None if length is None else prompt + length
        self._waiting: dict[int, Event] = {}  # units that became clean before an earlier one
        self._stream = None if tokenizer is None else TextStream(tokenizer)

    @property
    def settled(self) -> int:
        """How many tokens no later one can take back: those whose text has been given away, to its last character."""
        return len(self.tokens) if self.done else min(self._whole, bisect_right(self.ends, self.told))

    def add(self, event: Event) -> str:
        """The text that this event makes final; units may come in any order."""
        if self.done:
            return ""
        self.forwards = event.forwards
        if event.clean and event.start + len(event.content) > self._next:
            self._waiting[max(event.start, self._next)] = event
        while not self.done and self._next in self._waiting:
            self._take(self._waiting.pop(self._next))
        self.done |= event.last
        if self.done and self._stream is not None:
            self.text += self._stream.flush()
        return self._new()

    def _take(self, event: Event) -> None:
        """The tokens of a unit, as far as they are new and come before a stop token."""
        skip = self._next - event.start
        fresh = event.content.tolist()[skip : None if self.end is None else self.end - event.start]
        self._next += len(fresh)
        self.done |= self._next == self.end
        found = [place for place, token in enumerate(fresh) if token in self.stop_ids]
        if found:
            fresh, self.stopped, self.done = fresh[: found[0]], True, True
        self.tokens += fresh
        if event.log_prob is not None and event.order is not None:
            self.log_probs += event.log_prob.tolist()[skip : skip + len(fresh)]
            self.order += event.order.tolist()[skip : skip + len(fresh)]
        if event.top is not None:
            found_top = (one.tolist()[skip : skip + len(fresh)] for one in event.top)
            self.top += zip(*found_top, strict=True)
        for token in fresh:
            self.text += "" if self._stream is None else self._stream.push([token])
            self.ends.append(len(self.text))
            if self._stream is None or self._stream.whole:
                self._whole = len(self.ends)

    def _new(self) -> str:
        """What can be told: all but what may turn out to begin a stop text."""
        found = [at for at in map(self.text.find, self.stop_texts) if at >= 0]
        if found:
            self.text, self.stopped, self.done = self.text[: min(found)], True, True
            while self.tokens and len(decode(self.tokenizer, self.tokens, skip_special=True)) > len(self.text):
                self.tokens.pop()
            n = len(self.tokens)
            self.log_probs, self.order = self.log_probs[:n], self.order[:n]
            self.top, self.ends = self.top[:n], self.ends[:n]
        held = 0 if self.done else max(map(self._begun, self.stop_texts), default=0)
        new, self.told = self.text[self.told : len(self.text) - held], len(self.text) - held
        return new

    def _begun(self, stop: str) -> int:
        """How much of a stop text the text ends with."""
        return next((n for n in range(min(len(stop) - 1, len(self.text)), 0, -1) if self.text.endswith(stop[:n])), 0)


def unwritten(model: Model, ids: Sequence[Sequence[int]], stop: Sequence[Sequence[str]]) -> list[Writing]:
    """A row to be written behind every prompt, with stop texts of its own and the model's stop tokens."""
    ends = model.checkpoint.stop_token_ids
    return [Writing(model.tokenizer, len(one), ends, texts) for one, texts in zip(ids, stop, strict=True)]


def write(
    model: Model,
    ids: Sequence[Sequence[int]],
    lengths: int | Sequence[int],
    rows: Sequence[Writing],
    **options: Any,
) -> Iterator[tuple[Event, str]]:
    """Every event with the text that it makes final, until every row is done; ``options`` as of ``Model.stream``.

    A row that a stop text ends takes no more forwards into account, and the batch ends with its last row.
    """
    ended: set[int] = set()
    for event in model.stream(ids, lengths, ended=ended, **options):
        row = rows[event.row]
        if not row.done:
            yield event, row.add(event)
        if row.done:
            ended.add(event.row)
        if len(ended) == len(rows):
            return
