"""How one text came to be: for every token the forward and the step of its block that fixed it.

Works on any stream of text events, so it is the same for a model that writes from left to right and for one that fills
blocks. What is still open in the live block is part of it: a trace can be shown while it grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..evaluation.completion import whole
from ..generation import OPEN

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Token", "Trace", "trace"]


@dataclass(frozen=True)
class Token:
    """A token of the answer. id: -1 while it is open. text: empty while it is open, or half a character.

    forward: the forward that fixed it, from 1. step: the step of its block that fixed it, from 1. log_prob: of the
    token when it was fixed.
    """

    id: int = OPEN
    text: str = ""
    forward: int = 0
    step: int = 0
    log_prob: float = 0.0

    @property
    def open(self) -> bool:
        return self.id == OPEN


@dataclass(frozen=True)
class Trace:
    """A text so far: its tokens up to the end of the live block, and the forwards that it took.

    start: tokens of the prompt. block_size: of the model; 1 for one that writes from left to right.
    """

    prompt: str
    tokens: tuple[Token, ...]
    forwards: int
    start: int
    block_size: int

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def tokens_per_forward(self) -> float:
        return sum(not token.open for token in self.tokens) / max(1, self.forwards)


def trace(model: Model, prompt: str, length: int, seed: int = 0) -> Iterator[Trace]:
    """The trace after every forward; the last one is whole. It ends with a block, or before the first stop token."""
    ids = model.encode_prompt(prompt)
    length = whole(model, len(ids), length)
    found: dict[int, Token] = {}
    stop = set(model.checkpoint.stop_token_ids)
    end, forwards = len(ids) + length, 0
    for event in model.stream([ids], length, seed=seed, drafts=True, details=True):
        forwards = event.forwards
        orders = [0] * len(event.content) if event.order is None else event.order.tolist()
        scores = [0.0] * len(event.content) if event.log_prob is None else event.log_prob.tolist()
        for place, (token, order, score) in enumerate(
            zip(event.content.tolist(), orders, scores, strict=True), event.start
        ):
            if place >= len(ids) and (place not in found or (found[place].open and token != OPEN)):
                found[place] = Token() if token == OPEN else Token(token, "", forwards, max(0, order) + 1, score)
        stops = [place for place, token in found.items() if token.id in stop]
        known = [found[i] for i in range(len(ids), min([end, *stops])) if i in found]
        yield Trace(prompt, _spelt(model, known), forwards, len(ids), model.parts.layout.size)


def _spelt(model: Model, tokens: Sequence[Token]) -> tuple[Token, ...]:
    """The tokens with their texts; a character of several tokens belongs to the one that completes it."""
    spelt: list[Token] = []
    run: list[int] = []
    said = ""
    for token in tokens:
        if token.open:
            run, said = [], ""
            spelt.append(token)
            continue
        run.append(token.id)
        text = model.text(run).rstrip("\ufffd")
        spelt.append(Token(token.id, text[len(said) :], token.forward, token.step, token.log_prob))
        said = text if len(text) > len(said) else said
    return tuple(spelt)
