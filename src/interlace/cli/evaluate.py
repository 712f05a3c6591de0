"""interlace evaluate"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting, command
from .console import print_json, say, table
from .generate import SEED
from .models import OPENING, open_text_model
from .settings import DATA, DECODING

if TYPE_CHECKING:
    from ..model import Model
    from .measuring import Questions

_OF_DATA = tuple(s for s in DATA if s.name in ("data", "field"))


@command(
    Setting(
        "models", list[str], "models to compare: folders, Hugging Face names, base, twin", place=True, required=True
    ),
    Setting(
        "thresholds", list[float], "thresholds to measure a block diffusion model at", [1.0, 0.95, 0.9, 0.8, 0.6, 0.4]
    ),
    Setting("texts", int, "held-out pieces of text for the likelihood; 0 leaves it out", 64),
    Setting("draws", int, "masks drawn for each piece (bound)", 4),
    Setting("prompts", int, "held-out prompts to continue; 0 leaves it out", 48),
    Setting("prompt_tokens", int, "longest prompt", 128),
    Setting("length", int, "new tokens of a completion", 64),
    Setting("holes", int, "held-out holes to fill; 0 leaves it out", 32),
    Setting("batch_rows", int, "prompts completed at once", 8),
    *_OF_DATA,
    *(s for s in DECODING if s.name != "threshold"),
    SEED,
    *OPENING,
    panel="Measure",
    config=True,
)
def evaluate(
    models: list[str],
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
    json: bool,
    **decoding: Any,
) -> None:
    """Measure models on held-out text: likelihood, completion, infilling, and speed over a sweep of thresholds.

    All models get the same texts, prompts and holes. Likelihood is exact for an
    autoregressive model and an upper bound for a diffusion model. Parse rate: the
    share of completions that are Python. Exact: the share of holes filled as they
    were; tokens right: the share of their tokens. Tokens per forward count every
    forward, those that commit blocks included.

    [bold]Examples[/bold]
      interlace evaluate base twin
      interlace evaluate DIR --thresholds 0.9,0.8 --prompts 16 --holes 0
      interlace evaluate DIR --data notes.jsonl --json

    With --json every model is an object: model, system, likelihood, points (one
    for every threshold).
    """
    if min(texts, prompts, holes) < 0 or min(draws, length, batch_rows, prompt_tokens) < 1:
        least = "--draws, --length, --batch-rows and --prompt-tokens"
        raise SettingError(f"--texts, --prompts and --holes are 0 or more, {least} 1 or more; correct them")
    from ..training.text import DataSettings, mixture
    from .config import make
    from .measuring import questions

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
    found = []
    for name, model in opened:
        if not json:
            say(f"measuring {name} ({model.system.title})")
        found.append(_measured(name, model, asked, thresholds, draws, length, batch_rows, seed))
        if json:
            print_json(found[-1])
    if not json:
        _print(found, asked)


def _measured(
    name: str, model: Model, asked: Questions, sweep: list[float], draws: int, length: int, at_once: int, seed: int
) -> dict[str, Any]:
    from dataclasses import asdict

    from ..evaluation import frontier, likelihood

    scored = likelihood(model, asked.texts, draws, seed, progress=True) if asked.texts else None
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
    settings = model.settings.model_dump()
    return {
        "model": name,
        "system": model.system.name,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "settings": settings,
        "likelihood": None if scored is None else asdict(scored),
        "points": points,
        "seed": seed,
    }


def _print(found: list[dict[str, Any]], asked: Questions) -> None:
    scored = [(one["model"], one["likelihood"]) for one in found if one["likelihood"]]
    if scored:
        table(
            ["model", "kind", "nats per token", "±", "bits per byte", "tokens"],
            [
                [name, like["kind"], like["nats"], like["standard_error"], like["bits_per_byte"], like["tokens"]]
                for name, like in scored
            ],
            "held-out likelihood",
        )
    rows = []
    for one in found:
        for point in one["points"]:
            rows.append(
                [
                    one["model"],
                    point["threshold"]
                    if point["dial"] in (None, "threshold")
                    else f"{point['dial']} {point['threshold']}",
                    point["tokens_per_forward"],
                    point["tokens_per_second"],
                    point["parse_rate"],
                    _span(point["parse_interval"]),
                    point["exact_match"],
                    _span(point["exact_interval"]),
                    point["tokens_right"],
                ]
            )
    if rows:
        if scored:
            print()
        head = [
            "model",
            "threshold",
            "tokens per forward",
            "tokens/s",
            "parse rate",
            "95%",
            "exact",
            "95%",
            "tokens right",
        ]
        table(head, rows, "completion and infilling")


def _span(interval: tuple[float, float] | None) -> str | None:
    return None if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}"
