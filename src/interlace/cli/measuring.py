"""What models are measured on: held-out texts, prompts and holes, out of code or of any other text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import DataError, SettingError

if TYPE_CHECKING:
    from ..model import Model
    from ..training.loop import Probe
    from ..training.text import DataSettings
    from ..worlds.corpus import Document
    from ..worlds.verifiers import InfillCase, Prompt

__all__ = ["Questions", "measure", "measured", "probes", "questions"]

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


def measured(
    name: str, model: Model, asked: Questions, sweep: list[float], draws: int, length: int, at_once: int, seed: int
) -> dict[str, Any]:
    """All that is measured of a model, as `--json` gives it."""
    from dataclasses import asdict

    from ..evaluation import frontier, likelihood
    from ..evaluation.likelihood import kind

    scored = likelihood(model, asked.texts, draws, seed, progress=True) if asked.texts and kind(model) else None
    points = []
    if asked.prompts:
        found = frontier(model, asked.prompts, asked.cases, sweep, length, at_once, seed, progress=True)
        for point in found:
            done, filled = point.completions, point.fillings
            points.append(
                {
                    "dial": point.dial,
                    "threshold": point.threshold,
                    "tokens_per_forward": done.tokens_per_forward,
                    "tokens_per_second": done.tokens_per_second,
                    "slots_per_token": done.slots_per_token,
                    "largest_first_forward": done.widest[0],
                    "largest_later_forward": done.widest[1],
                    "peak_bytes": done.peak_bytes,
                    "parse_rate": done.parse_rate if asked.code else None,
                    "parse_interval": done.parse_interval if asked.code else None,
                    "exact_match": None if filled is None else filled.exact_match(),
                    "exact_interval": None if filled is None else filled.exact_interval(),
                    "tokens_right": None if filled is None else filled.accuracy(),
                    "sees_suffix": None if filled is None else filled.sees_suffix,
                    "prompts": done.count,
                    "holes": 0 if filled is None else len(filled.records),
                    "length": length,
                    "batch_rows": at_once,
                }
            )
    settings, config = model.settings.model_dump(mode="json"), model.network.config
    weight = next(model.network.parameters())
    kept = model.parts.memory != "none"
    cache = kept * 2 * config.num_layers * config.num_kv_heads * config.head_dim * weight.element_size()
    return {
        "model": name,
        "system": model.system.name,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "weight_bytes": sum(p.numel() * p.element_size() for p in model.network.parameters()),
        "cache_bytes_per_token": cache,
        "settings": settings,
        "likelihood": None if scored is None else asdict(scored),
        "points": points,
        "seed": seed,
    }


def measure(
    models: Sequence[str],
    thresholds: list[float],
    texts: int,
    draws: int,
    prompts: int,
    prompt_tokens: int,
    length: int,
    holes: int,
    batch_rows: int,
    data: str,
    field: str,
    seed: int,
    system: str | None,
    dtype: str | None,
    device: str | None,
    each: Callable[[dict[str, Any]], None] | None = None,
    **decoding: Any,
) -> tuple[list[dict[str, Any]], Questions]:
    """Open the models, ask all of them the same, and return what was measured; ``each`` is called after every model."""
    if min(texts, prompts, holes) < 0 or min(draws, length, batch_rows, prompt_tokens) < 1:
        least = "--draws, --length, --batch-rows and --prompt-tokens"
        raise SettingError(f"--texts, --prompts and --holes are 0 or more, {least} 1 or more; correct them")
    from ..evaluation.likelihood import kind
    from ..training.text import DataSettings, mixture
    from .config import make
    from .console import say
    from .models import open_text_model

    documents = list(mixture(make(DataSettings, {"data": data, "field": field}), "heldout"))
    opened = [(name, open_text_model(name, system, dtype, device, decoding)) for name in models]
    for name, model in opened:
        if model.tokenizer is None:
            raise SettingError(f"{name} has no tokenizer.json; add the tokenizer's files beside config.json")
    room = min(model.network.config.max_positions for _, model in opened)
    asked = questions(
        documents, opened[0][1].tokenizer, texts, prompts, holes, max(1, min(prompt_tokens, (room - length) // 2)), seed
    )
    if not asked.code and (prompts or holes):
        say("the held-out text is not Python: no parse rate, and no holes to fill")
    for what, wanted, have in (("texts", texts, asked.texts), ("prompts", prompts, asked.prompts)):
        if len(have) < wanted:
            say(f"the held-out text is enough for {len(have)} {what}, not for {wanted}")
    for name, model in opened:
        if asked.texts and kind(model) is None:
            say(f"{name} ({model.system.title}) has not even a bound of its likelihood here; it is left out")
    found = []
    for name, model in opened:
        if each is None:
            say(f"measuring {name} ({model.system.title})")
        found.append(measured(name, model, asked, thresholds, draws, length, batch_rows, seed))
        if each is not None:
            each(found[-1])
    return found, asked
