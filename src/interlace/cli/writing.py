"""Rows as they are written: text that is final, in order, and drafts of what is not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..worlds.tokenizer import TextStream, decode

if TYPE_CHECKING:
    from ..generation import Event

__all__ = ["Drafts", "Writing", "pieces"]

OPEN = -1


class Writing:
    """One row, as its events come in, up to a stop token or a stop text.

    tokens, log_probs, order: what is final, in order. text: of these tokens. forwards: so far. stopped: whether a stop
    ended it. done: nothing more comes.
    """

    def __init__(
        self, tokenizer: Any, prompt: int, stop_ids: Sequence[int] = (), stop_texts: Sequence[str] = ()
    ) -> None:
        self.tokenizer = tokenizer
        self.stop_ids, self.stop_texts = frozenset(stop_ids), tuple(stop_texts)
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self.order: list[int] = []
        self.text, self.forwards, self.stopped, self.done = "", 0, False, False
        self._next = prompt  # place of the next token that becomes final
        self._waiting: dict[int, Event] = {}  # units that became clean before an earlier one
        self._stream = None if tokenizer is None else TextStream(tokenizer)
        self._told = 0

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
        fresh = event.content.tolist()[skip:]
        self._next += len(fresh)
        found = [place for place, token in enumerate(fresh) if token in self.stop_ids]
        if found:
            fresh, self.stopped, self.done = fresh[: found[0]], True, True
        self.tokens += fresh
        if event.log_prob is not None and event.order is not None:
            self.log_probs += event.log_prob.tolist()[skip : skip + len(fresh)]
            self.order += event.order.tolist()[skip : skip + len(fresh)]
        if self._stream is not None:
            self.text += self._stream.push(fresh)

    def _new(self) -> str:
        """What can be told: all but what may turn out to begin a stop text."""
        found = [at for at in map(self.text.find, self.stop_texts) if at >= 0]
        if found:
            self.text, self.stopped, self.done = self.text[: min(found)], True, True
            while self.tokens and len(decode(self.tokenizer, self.tokens, skip_special=True)) > len(self.text):
                self.tokens.pop()
            n = len(self.tokens)
            self.log_probs, self.order = self.log_probs[:n], self.order[:n]
        held = 0 if self.done else max((len(stop) - 1 for stop in self.stop_texts), default=0)
        end = max(self._told, len(self.text) - held)
        new, self._told = self.text[self._told : end], end
        return new


class Drafts:
    """All rows as they stand, with every event: known text, and ``░`` for a token that is still open.

    In a terminal they are redrawn in place, behind ``heads`` (the prompts), and vanish at the end; elsewhere every
    event is a line.
    """

    def __init__(
        self, tokenizer: Any, prompts: Sequence[int], lengths: Sequence[int], heads: Sequence[str] | None = None
    ) -> None:
        self.tokenizer, self.prompts, self.heads = tokenizer, list(prompts), heads or [""] * len(prompts)
        self.rows = [[OPEN] * length for length in lengths]
        self.live: Any = None

    def __enter__(self) -> Drafts:
        if sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(highlight=False), transient=True, auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    def show(self, event: Event) -> None:
        row, prompt = self.rows[event.row], self.prompts[event.row]
        skip = max(0, prompt - event.start)
        fresh = event.content.tolist()[skip:]
        row[event.start + skip - prompt : event.start + skip - prompt + len(fresh)] = fresh
        if self.live is not None:
            self.live.update(self._picture(), refresh=True)
            return
        text = "".join(piece for piece, _ in pieces(self.tokenizer, fresh)).replace("\n", "⏎")
        state = "clean" if event.clean else "draft"
        print(f"row {event.row}  forward {event.forwards}  unit {event.unit}  {state}  {text}", flush=True)

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        height = max(1, (self.live.console.height - 1) // len(self.rows) - 1)
        shown = []
        for head, tokens in zip(self.heads, self.rows, strict=True):
            drawn = Text(head, style="dim")
            for piece, known in pieces(self.tokenizer, tokens):
                drawn.append(piece, style="not dim" if known else "dim")
            # of what does not fit, the end is shown
            shown.append(Text("\n").join(drawn.wrap(self.live.console, self.live.console.width)[-height:]))
        return Group(*shown)


def pieces(tokenizer: Any, tokens: Sequence[int]) -> list[tuple[str, bool]]:
    """Stretches of text, and whether they are known: an open token is ``("░", False)``."""
    found: list[tuple[str, bool]] = []
    run: list[int] = []
    for token in [*tokens, None]:
        if token is not None and token != OPEN:
            run.append(token)
            continue
        if run:
            found.append((decode(tokenizer, run, skip_special=True), True))
            run = []
        if token == OPEN:
            found.append(("░", False))
    return found
