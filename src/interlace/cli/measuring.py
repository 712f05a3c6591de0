"""What models are measured on: held-out texts, prompts and holes, out of code or of any other text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import DataError

if TYPE_CHECKING:
    from ..training.loop import Probe
    from ..training.text import DataSettings
    from ..worlds.corpus import Document
    from ..worlds.verifiers import InfillCase, Prompt

__all__ = ["Questions", "probes", "questions"]

T = TypeVar("T")


@dataclass(frozen=True)
class Questions:
    """code: whether prompts and holes are Python, so that it can be said whether an answer parses."""

    texts: list[str]
    prompts: list[Prompt]
    cases: list[InfillCase]
    code: bool


def questions(
    documents: Sequence[Document], tokenizer: Any, texts: int, prompts: int, cases: int, prompt_tokens: int, seed: int
) -> Questions:
    """At most so many questions out of held-out documents, fewer where there is not enough text.

    Prompts and holes are cut out of Python; of other text, the beginnings of pieces are prompts, without a check of the
    answers, and there are no holes.
    """
    from ..evaluation import pieces
    from ..worlds.verifiers import Prompt, code_prompts, infill_cases

    if all(document.name.endswith((".py", ".pyi")) for document in documents):
        scored = _at_most(texts, lambda n: pieces(documents, n, seed=seed))
        asked = _at_most(prompts, lambda n: code_prompts(documents, n, tokenizer, prompt_tokens, seed))
        context = 2 * prompt_tokens
        holes = _at_most(cases, lambda n: infill_cases(documents, n, tokenizer, seed, context_tokens=context))
        return Questions(scored, asked, holes, True)
    begun = _stretches(documents, prompts, 4 * prompt_tokens, seed)
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in begun]
    asked = [Prompt(f"text {number}", *half) for number, half in enumerate(halves)]
    return Questions(_stretches(documents, texts, 1200, seed), asked, [], False)


def _stretches(documents: Sequence[Document], count: int, characters: int, seed: int) -> list[str]:
    """At most ``count`` stretches of at most ``characters`` characters, wherever a line ends; the same for a seed."""
    found = [
        document.text[at : at + characters].strip()
        for document in documents
        for at in range(0, len(document.text), characters)
    ]
    found = [text for text in found if len(text) > 1]
    return random.Random(seed).sample(found, min(count, len(found)))


def _at_most(count: int, make: Callable[[int], list[T]]) -> list[T]:
    """``make(count)``, or of the largest count below it, halved and halved again, for which there is enough text."""
    while count > 0:
        try:
            return make(count)
        except DataError:
            count //= 2
    return []


def probes(data: DataSettings, count: int, seed: int) -> Any:
    """For ``interlace.recipes.adapt``: at every evaluation, the tokens per forward on ``count`` held-out prompts."""

    def of(model: Any) -> list[Probe]:
        from ..evaluation import complete
        from ..training.text import mixture

        room = model.network.config.max_positions
        length = max(1, min(48, room // 4))
        documents = list(mixture(data, "heldout"))
        asked = questions(documents, model.tokenizer, 0, count, 0, max(2, min(96, room // 2)), seed)
        if not asked.prompts:
            return []  # too little text is held out to ask anything

        def probe(_: Any) -> dict[str, float]:
            import torch

            with torch.compiler.set_stance("force_eager"):  # decoding has many shapes; training has one
                found = complete(model, asked.prompts, length, at_once=count, seed=seed)
            return {"tokens_per_forward": found.tokens_per_forward} | (
                {"parse_rate": found.parse_rate} if asked.code else {}
            )

        return [probe]

    return of if count else None
