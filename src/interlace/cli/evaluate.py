"""interlace evaluate"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting, command
from .console import dialled, print_json, span, table
from .generate import SEED
from .models import OPENING
from .settings import DATA, DECODING
from .solving import SOLVING, show_solved, solved

if TYPE_CHECKING:
    from .measuring import Questions

__all__ = ["MEASURING", "evaluate", "show"]

_OF_DATA = tuple(s for s in DATA if s.name in ("data", "field"))
_OF_TEXT = ("texts", "draws", "prompts", "prompt_tokens", "holes", "data", "field")

MEASURING = (
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
)


_WITH_TASK = {"thresholds": "the model's own", "length": "256"}
_ON_TEXT = {s.name: s.default for s in MEASURING if s.name in _WITH_TASK}


def _said(setting: Setting) -> Setting:
    """What depends on whether tasks are asked is chosen when that is known."""
    if setting.name not in _WITH_TASK:
        return setting
    return replace(setting, default=None, shown=f"{setting.otherwise}; with --task {_WITH_TASK[setting.name]}")


@command(
    *map(_said, MEASURING),
    *SOLVING,
    panel="Measure",
)
def evaluate(models: list[str], json: bool, task: str | None, **options: Any) -> None:
    """Measure models on held-out text, or on tasks: quality, and speed over a sweep of thresholds.

    On text: likelihood, completion, infilling. All models get the same texts,
    prompts and holes. Likelihood is exact for an autoregressive model and an
    upper bound for a diffusion model. Parse rate: the share of completions that
    are Python. Exact: the share of holes filled as they were; tokens right: the
    share of their tokens. Tokens per forward count every forward, those that
    commit blocks included.

    With --task: the share of tasks that a program finds solved, and nothing else.
    Code runs its tests in a process of its own under limits; that holds back
    accidents, not malice.

    [bold]Examples[/bold]
      interlace evaluate base twin
      interlace evaluate DIR --thresholds 0.9,0.8 --prompts 16 --holes 0
      interlace evaluate DIR --data notes.jsonl --json
      interlace evaluate DIR --task test.jsonl --shots 8 --shots-from train.jsonl
      interlace evaluate DIR --task humaneval.jsonl --out verdicts.jsonl

    With --json every model is an object: model, system, likelihood, points (one
    for every threshold); with --task: model, system, task, tasks, points with
    accuracy, interval, right, tokens, forwards, tokens_per_forward.
    """
    mine = {s.name: options.pop(s.name) for s in SOLVING if s.name in options}
    each = print_json if json else None
    if task is not None:
        kept = {name: value for name, value in options.items() if name not in _OF_TEXT}
        kept["length"] = 256 if kept["length"] is None else kept["length"]
        found = solved(models, task, **mine, **kept, each=each)
        if not json:
            show_solved(found)
        return
    for s in SOLVING:
        if mine.get(s.name, s.default) != s.default:
            raise SettingError(f"{s.flag} belongs to --task; pass --task FILE, or leave it out")
    from .measuring import measure

    options |= {name: default for name, default in _ON_TEXT.items() if options[name] is None}
    measurements, asked = measure(models, **options, each=each)
    if not json:
        show(measurements, asked)


def show(found: list[dict[str, Any]], asked: Questions) -> None:
    """Tables of likelihood, completion and infilling."""
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
                    dialled(point),
                    point["tokens_per_forward"],
                    point["tokens_per_second"],
                    point["parse_rate"],
                    span(point["parse_interval"]),
                    point["exact_match"],
                    span(point["exact_interval"]),
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
