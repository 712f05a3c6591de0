"""How a model goes on with code that it has not seen: does it parse, and at which speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from ..generation import Result
from ..hardware import peak_memory
from ..worlds.verifiers import Prompt, completion_parses
from .progress import watched
from .rates import Spent, rate_interval

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Completion", "Completions", "complete", "whole"]


@dataclass(frozen=True)
class Completion:
    """One prompt and how the model went on. tokens: new ones, the stop token included. result: with ids and details."""

    name: str
    prompt: str
    text: str
    parses: bool
    tokens: int
    forwards: int
    stopped: bool
    result: Result = field(repr=False, compare=False)


@dataclass(frozen=True)
class Completions(Spent):
    """What all prompts together say.

    parse_rate: share of completions that are Python where they continue their prompt (``completion_parses``).
    tokens_per_forward: tokens / forwards, both summed over rows; the fused commits are in it. tokens_per_second: tokens
    over the wall clock, at ``at_once`` rows per batch, or of the first ``alone`` prompts one at a time. settings: of
    the model's decoding. peak_bytes: what was in use on a GPU at most, beyond what lay there before; None on a CPU.
    """

    records: tuple[Completion, ...]
    seconds: float
    length: int
    at_once: int
    seed: int
    settings: dict[str, Any]
    alone: int = 0
    peak_bytes: int | None = None

    @property
    def count(self) -> int:
        return len(self.records)

    @property
    def parse_rate(self) -> float:
        return sum(r.parses for r in self.records) / max(1, self.count)

    @property
    def parse_interval(self) -> tuple[float, float]:
        """95% interval of the parse rate (Wilson)."""
        return rate_interval(sum(r.parses for r in self.records), self.count)

    @property
    def slots_per_token(self) -> float:
        """Token slots of all forwards, those of the prompts left out, for every new token."""
        return sum(r.result.slots - len(r.result.row) + len(r.result.content) for r in self.records) / max(
            1, self.tokens
        )

    @property
    def widest(self) -> tuple[int, int]:
        """The most token slots of one row in a forward: its first, which reads the prompt, and a later one."""
        first, later = (max((r.result.widest[i] for r in self.records), default=0) for i in range(2))
        return first, later

    @property
    def timed(self) -> int:
        """How many prompts the speed is measured on: the first ``alone``, or all."""
        return self.alone or self.count

    @property
    def tokens_per_second(self) -> float:
        return sum(r.tokens for r in self.records[: self.timed]) / max(1e-9, self.seconds)


def whole(model: Model, prompt: int, length: int) -> int:
    """``length``, and what is left of the last block behind a prompt of so many tokens.

    >>> whole(model, prompt=6, length=8)        # blocks of 4     # doctest: +SKIP
    10
    """
    size = model.parts.layout.size
    return -(-(prompt + length) // size) * size - prompt


def complete(
    model: Model,
    prompts: Sequence[Prompt],
    length: int = 64,
    at_once: int = 8,
    seed: int = 0,
    details: bool = False,
    progress: bool = False,
    alone: int = 0,
) -> Completions:
    """Let the model go on with every prompt for ``length`` tokens, ``at_once`` prompts in a batch.

    A completion ends with a whole block (``whole``): tokens that are computed are counted.
    The rows of a batch do not see each other: apart from the time, ``at_once`` changes nothing. With
    ``alone`` the first prompts run one at a time, and the speed is theirs: that of a single user, at the cost of a few
    prompts. One short batch of the same shape runs before the clock starts.

    >>> complete(model, code_prompts(standard_library("heldout"), 32, model.tokenizer, 128))    # doctest: +SKIP
    """
    if length < 1 or at_once < 1 or alone < 0:
        raise SettingError(f"length {length}, at_once {at_once}, alone {alone}; pass 1, 1, 0 or more")
    ids = [model.encode_prompt(prompt.text) for prompt in prompts]
    lengths = [whole(model, len(prompt), length) for prompt in ids]
    alone = min(alone, len(ids))
    batches = [slice(i, i + 1) for i in range(alone)]
    batches += [slice(i, i + at_once) for i in range(alone, len(ids), at_once)]
    if ids:
        model.complete_all(ids[batches[0]], min(length, 2 * model.parts.layout.size), seed=seed)
    records: list[Completion] = []
    seconds = 0.0
    peak = peak_memory(next(model.network.parameters()).device)
    for some in watched(batches, len(batches), "completions", progress):
        began = time.perf_counter()
        results = model.complete_all(ids[some], lengths[some], seed=seed, details=details)
        seconds += time.perf_counter() - began if not alone or len(records) < alone else 0.0
        for prompt, result in zip(prompts[some], results, strict=True):
            text = model.text(result.content)
            parses = completion_parses(prompt.text, text)
            tokens = len(result.content) + result.stopped
            records.append(
                Completion(prompt.name, prompt.text, text, parses, tokens, result.forwards, result.stopped, result)
            )
    settings = model.settings.model_dump(mode="json")
    return Completions(tuple(records), seconds, length, at_once, seed, settings, alone, peak())
