"""How answers are written down: completions and chats, whole and in chunks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .. import __version__

if TYPE_CHECKING:
    from .answering import Piece
    from .asking import Ask
    from .served import Served

__all__ = ["ChatWording", "CompletionWording", "Wording", "used"]

LEAST = -9999.0
"""What stands for the logarithm of zero."""


def used(prompt_tokens: int, asks: Sequence[Ask]) -> dict[str, Any]:
    """What an answer has cost."""
    new = sum(len(ask.writing.tokens) for ask in asks)
    cached: dict[int, int] = {}
    for ask in asks:  # a prompt is counted once, for however many answers
        cached.setdefault(id(ask.prompt), ask.cached)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new,
        "total_tokens": prompt_tokens + new,
        "prompt_tokens_details": {"cached_tokens": min(prompt_tokens, sum(cached.values()))},
        "forwards": sum(ask.writing.forwards for ask in asks),
    }


class Wording(ABC):
    """What an answer and its chunks have in common. top: log-probabilities are told, and so many alternatives."""

    whole_kind = chunk_kind = prefix = ""

    def __init__(self, served: Served, identifier: str, prompt_tokens: int, top: int | None) -> None:
        self.served, self.top, self.prompt_tokens = served, top, prompt_tokens
        self._head = {
            "id": f"{self.prefix}-{identifier}",
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": f"interlace-{__version__}",
        }

    def whole(self, asks: Sequence[Ask]) -> dict[str, Any]:
        """The answer in one."""
        choices = [self.choice(number, ask) for number, ask in enumerate(asks)]
        return self._head | {"object": self.whole_kind, "choices": choices, "usage": used(self.prompt_tokens, asks)}

    def usage(self, asks: Sequence[Ask]) -> dict[str, Any]:
        """The last chunk, for those who want to know."""
        return self._head | {"object": self.chunk_kind, "choices": [], "usage": used(self.prompt_tokens, asks)}

    def chunk(self, number: int, **said: Any) -> dict[str, Any]:
        choice = {"index": number, "logprobs": None, "finish_reason": None} | said
        return self._head | {"object": self.chunk_kind, "choices": [choice]}

    @abstractmethod
    def opening(self, number: int, ask: Ask) -> Iterator[dict[str, Any]]:
        """What is told before the first token."""

    @abstractmethod
    def delta(self, piece: Piece, ask: Ask) -> dict[str, Any]:
        """The chunk of a unit."""

    @abstractmethod
    def closing(self, piece: Piece) -> dict[str, Any]:
        """The chunk that says why an answer ends."""

    @abstractmethod
    def choice(self, number: int, ask: Ask) -> dict[str, Any]:
        """One of the answers, whole."""

    def spelt(self, token: int) -> tuple[str, list[int]]:
        """The text of one token, and its bytes: a character may be spread over several tokens."""
        text = self.served.model.tokenizer.decode([token], skip_special_tokens=False)
        return text, list(self.served.words[token] or text.encode())

    def alternatives(self, ask: Ask, at: int) -> list[tuple[int, float]]:
        """The likeliest tokens, and the one that was chosen, whose value is that which is told of it."""
        chosen = ask.writing.tokens[at], self.log_prob(ask, at)
        if not self.top or at >= len(ask.writing.top):
            return [chosen]
        tokens, log_probs = ask.writing.top[at]
        found = {token: max(value, LEAST) for token, value in zip(tokens, log_probs, strict=True)}
        return list((dict(list(found.items())[: self.top]) | dict([chosen])).items())

    def log_prob(self, ask: Ask, at: int) -> float:
        return max(ask.writing.log_probs[at], LEAST)


class CompletionWording(Wording):
    """/v1/completions. ``echo``: the prompt's text comes first."""

    whole_kind, chunk_kind, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, served: Served, identifier: str, prompt_tokens: int, top: int | None, echo: bool) -> None:
        super().__init__(served, identifier, prompt_tokens, top)
        self.echo = echo

    def opening(self, number: int, ask: Ask) -> Iterator[dict[str, Any]]:
        if self.echo:
            yield self.chunk(number, text=ask.prompt.text)

    def delta(self, piece: Piece, ask: Ask) -> dict[str, Any]:
        unit = {} if piece.unit is None else {"unit": piece.unit}
        log_probs = self.log_probs(ask, piece.first, piece.last)
        return self.chunk(piece.choice, text=piece.text, logprobs=log_probs, **unit)

    def closing(self, piece: Piece) -> dict[str, Any]:
        return self.chunk(piece.choice, text="", finish_reason=piece.finish)

    def choice(self, number: int, ask: Ask) -> dict[str, Any]:
        return {
            "index": number,
            "text": (ask.prompt.text if self.echo else "") + ask.writing.text,
            "logprobs": self.log_probs(ask, 0, len(ask.writing.tokens)),
            "finish_reason": ask.finish,
        }

    def name(self, token: int) -> str:
        """The text of a token; of one that is no text by itself, its bytes, as OpenAI writes them: ``bytes:\\xe2``."""
        text, spelt = self.spelt(token)
        try:
            return text if "\ufffd" not in text else bytes(spelt).decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelt)

    def log_probs(self, ask: Ask, first: int, last: int) -> dict[str, Any] | None:
        if self.top is None:
            return None
        places = range(first, last)
        return {
            "tokens": [self.name(ask.writing.tokens[at]) for at in places],
            "token_logprobs": [self.log_prob(ask, at) for at in places],
            "top_logprobs": [
                {self.name(token): value for token, value in reversed(self.alternatives(ask, at))}
                | {self.name(ask.writing.tokens[at]): self.log_prob(ask, at)}
                for at in places
            ],
            "text_offset": [ask.writing.ends[at - 1] if at else 0 for at in places],
        }


class ChatWording(Wording):
    """/v1/chat/completions."""

    whole_kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def opening(self, number: int, ask: Ask) -> Iterator[dict[str, Any]]:
        yield self.chunk(number, delta={"role": "assistant", "content": ""})

    def delta(self, piece: Piece, ask: Ask) -> dict[str, Any]:
        unit = {} if piece.unit is None else {"unit": piece.unit}
        log_probs = self.log_probs(ask, piece.first, piece.last)
        return self.chunk(piece.choice, delta={"content": piece.text}, logprobs=log_probs, **unit)

    def closing(self, piece: Piece) -> dict[str, Any]:
        return self.chunk(piece.choice, delta={}, finish_reason=piece.finish)

    def choice(self, number: int, ask: Ask) -> dict[str, Any]:
        return {
            "index": number,
            "message": {"role": "assistant", "content": ask.writing.text, "refusal": None},
            "logprobs": self.log_probs(ask, 0, len(ask.writing.tokens)),
            "finish_reason": ask.finish,
        }

    def log_probs(self, ask: Ask, first: int, last: int) -> dict[str, Any] | None:
        if self.top is None:
            return None
        return {"content": [self._token(ask, at) for at in range(first, last)], "refusal": None}

    def _token(self, ask: Ask, at: int) -> dict[str, Any]:
        def told(token: int, value: float) -> dict[str, Any]:
            text, spelt = self.spelt(token)
            return {"token": text, "logprob": value, "bytes": spelt}

        others = [told(token, value) for token, value in self.alternatives(ask, at)] if self.top else []
        return told(ask.writing.tokens[at], self.log_prob(ask, at)) | {"top_logprobs": others}
