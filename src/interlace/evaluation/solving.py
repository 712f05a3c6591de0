"""How many tasks a model solves, where a program can tell, and at which speed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..checkpoints.chat import Message, chat
from ..errors import DataError, SettingError
from ..worlds.tokenizer import encode
from ..writing import unwritten, write
from .completion import whole
from .progress import watched
from .rates import Spent, around, rate_interval, ratio

if TYPE_CHECKING:
    from ..model import Model
    from ..tasks import Task, Verdict

__all__ = ["Asked", "Solution", "Solutions", "ask", "solve"]

BETWEEN = "\n\n"
"""What stands between an example and what follows it."""


@dataclass(frozen=True)
class Asked:
    """A task as a model is given it. ids: the whole prompt. prompt: of the task alone, as the verifier sees it."""

    task: Task
    ids: list[int]
    prompt: str
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Solution:
    """What a model answered, and what the verifier said. tokens: of the answer, and one for a stop that ended it."""

    task: Task
    sample: int
    text: str
    verdict: Verdict
    tokens: int
    forwards: int
    stopped: bool
    seed: int


@dataclass(frozen=True)
class Solutions(Spent):
    """What all tasks together say. ``samples`` answers a task, that follow each other; seconds: of generating.

    accuracy: share of answers that are right, which is pass@1. pass_any: share of tasks with a right one among all
    their answers, which is pass@samples.
    """

    records: tuple[Solution, ...]
    seconds: float
    samples: int
    settings: dict[str, Any]

    @property
    def count(self) -> int:
        """Tasks."""
        return len(self.records) // self.samples

    @property
    def right(self) -> int:
        """Answers that are right."""
        return sum(r.verdict.right for r in self.records)

    @property
    def accuracy(self) -> float:
        return self.right / max(1, len(self.records))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy: Wilson's, and over tasks where each has several answers."""
        if self.samples == 1:
            return rate_interval(self.right, self.count)
        low, high = around(*ratio(self._right_by_task, [self.samples] * self.count))
        return max(0.0, low), min(1.0, high)

    @property
    def pass_any(self) -> float:
        return sum(map(bool, self._right_by_task)) / max(1, self.count)

    @property
    def pass_any_interval(self) -> tuple[float, float]:
        """95% interval of that share (Wilson)."""
        return rate_interval(sum(map(bool, self._right_by_task)), self.count)

    @property
    def _right_by_task(self) -> list[int]:
        n = self.samples
        return [sum(r.verdict.right for r in self.records[i : i + n]) for i in range(0, len(self.records), n)]

    @property
    def cut(self) -> int:
        """Answers that reached the length without a stop: too small a length lowers the accuracy."""
        return sum(not r.stopped for r in self.records)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(1e-9, self.seconds)


def ask(
    model: Model,
    tasks: Sequence[Task],
    length: int,
    examples: Sequence[Task] = (),
    shots: int | None = None,
    as_chat: bool = False,
) -> list[Asked]:
    """Every task as the model is given it: behind the first ``shots`` examples with their solutions, or in a chat.

    A task is never its own example. Blanks at the end of a prompt that the tokenizer would join with what follows are
    left to the model. In a chat the examples are turns, and no stop texts are used: a turn ends by a token.

    Raises ``DataError``, with the task's file and line, for one that is empty, or has no room with ``length`` tokens
    behind it, and for an example without a solution; ``SettingError`` without a tokenizer, or a chat template.
    """
    if model.tokenizer is None:
        raise SettingError("the model has no tokenizer, which tasks need; add the tokenizer's files")
    told = chat(model.checkpoint) if as_chat else None
    found = []
    for task in tasks:
        before = [example for example in examples if example.prompt != task.prompt][:shots]
        for example in before:
            if example.solution is None:
                raise DataError(f"{example.where}: an example needs its solution; add the field 'solution'")
        try:
            one = _chat(model, told, task, before) if told is not None else _plain(model, task, before)
        except DataError as error:
            raise DataError(f"{task.where}: {error}") from None
        _fits(model, one, length)
        found.append(one)
    return found


def _plain(model: Model, task: Task, examples: Sequence[Task]) -> Asked:
    prompt = _settled(model, task.prompt)
    before = [(example.prompt + (example.solution or "")).strip("\n") for example in examples]
    return Asked(task, model.encode_prompt(BETWEEN.join([*before, prompt])), prompt, task.stop)


def _chat(model: Model, told: Callable[[Sequence[Message]], str], task: Task, examples: Sequence[Task]) -> Asked:
    turns: list[Message] = []
    for example in examples:
        turns.append({"role": "user", "content": example.message})
        turns.append({"role": "assistant", "content": (example.solution or "").strip()})
    text = told([*turns, {"role": "user", "content": task.message}])
    return Asked(task, encode(model.tokenizer, text, allow_special=True), task.prompt, ())


def _settled(model: Model, prompt: str) -> str:
    """A prompt without the blanks at its end, if these are tokens of another kind once something follows."""
    shorter = prompt.rstrip()
    if not shorter or shorter == prompt:
        return prompt
    ids = model.encode(prompt)
    for text in ("    x", "x", "1"):
        with suppress(DataError):  # a character that the tokenizer does not know follows nothing
            if model.encode(prompt + text)[: len(ids)] != ids:
                return shorter
    return prompt


def _fits(model: Model, one: Asked, length: int) -> None:
    room, many = model.network.config.max_positions, len(one.ids)
    if not many:
        raise DataError(f"{one.task.where}: the prompt is empty; write one, or remove the line")
    if many + whole(model, many, length) > room:
        raise DataError(
            f"{one.task.where}: {many} prompt tokens and {length} new ones, in whole blocks, exceed the model's {room} "
            "positions; pass a shorter --length, fewer --shots, or leave the task out"
        )


def solve(
    model: Model,
    asked: Sequence[Asked],
    length: int = 256,
    at_once: int = 8,
    seed: int = 0,
    samples: int = 1,
    each: Callable[[Solution], None] | None = None,
    progress: bool = False,
) -> Solutions:
    """Answer every task ``samples`` times with at most ``length`` tokens (and what fills the last block), and verify.

    Answer k of a task draws by ``seed + k``. The rows of a batch do not see each other: ``at_once`` changes nothing
    but the time. A row ends with a stop token or before a stop text, and a batch with its last row. ``each`` is called
    with every solution, in order. Raises ``SettingError`` for several answers where all would be the same.

    >>> solve(model, ask(model, read_tasks("gsm8k-test.jsonl"), 256)).accuracy     # doctest: +SKIP
    """
    if length < 1 or at_once < 1 or samples < 1:
        raise SettingError(f"length {length}, at_once {at_once}, samples {samples}; pass 1 or more of each")
    if samples > 1 and getattr(model.settings, "temperature", 1) == 0:
        raise SettingError(f"{samples} samples at temperature 0 are all the same; pass --temperature, or one sample")
    rows = [(one, sample) for one in asked for sample in range(samples)]
    batches = [rows[i : i + at_once] for i in range(0, len(rows), at_once)]
    records: list[Solution] = []
    seconds = 0.0
    with ThreadPoolExecutor(min(at_once, os.cpu_count() or 1)) as pool:
        for some in watched(batches, len(batches), "tasks", progress):
            ids = [one.ids for one, _ in some]
            lengths = [whole(model, len(one), length) for one in ids]
            seeds = [seed + sample for _, sample in some]
            written = unwritten(model, ids, [one.stop for one, _ in some])
            began = time.perf_counter()
            for _ in write(model, ids, lengths, written, seed=seeds):
                pass
            seconds += time.perf_counter() - began
            verdicts = pool.map(lambda one, row: one.task.verifier(one.prompt, row.text), [o for o, _ in some], written)
            for (one, sample), row, drawn, verdict in zip(some, written, seeds, verdicts, strict=True):
                many = len(row.tokens) + row.stopped
                records.append(Solution(one.task, sample, row.text, verdict, many, row.forwards, row.stopped, drawn))
                if each is not None:
                    each(records[-1])
    return Solutions(tuple(records), seconds, samples, model.settings.model_dump(mode="json"))
