"""Models on a file of tasks: what is asked, what comes out, and the verdict on every answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting
from .console import dialled, say, span, table

if TYPE_CHECKING:
    from ..evaluation.solving import Solution, Solutions
    from ..model import Model
    from ..tasks import Task

__all__ = ["SOLVING", "TASK", "show_solved", "solved"]

TASK = Setting(
    "task",
    str,
    "the share of these tasks that is solved, and nothing else: JSON lines with prompt and verifier (exact, number, "
    "tests), or a file of GSM8K, HumanEval or MBPP as it is published",
    panel="Tasks",
    metavar="FILE",
)
SOLVING = (
    TASK,
    Setting("limit", int, "only the first so many tasks", shown="all", panel="Tasks"),
    Setting("shots", int, "solved examples before every task", 0, panel="Tasks"),
    Setting("shots_from", str, "task file whose first lines are the examples", panel="Tasks", metavar="FILE"),
    Setting("chat", bool, "ask by the tokenizer's chat template", False, panel="Tasks"),
    Setting("samples", int, "answers to every task, which need a temperature", 1, panel="Tasks"),
    Setting("out", str, "write every answer and its verdict here, as JSON lines", panel="Tasks", metavar="FILE"),
)


def solved(
    models: Sequence[str],
    task: str,
    limit: int | None,
    shots: int,
    shots_from: str | None,
    chat: bool,
    samples: int,
    out: str | None,
    thresholds: list[float] | None,
    length: int,
    batch_rows: int,
    seed: int,
    system: str | None,
    dtype: str | None,
    device: str | None,
    each: Callable[[dict[str, Any]], None] | None = None,
    **decoding: Any,
) -> list[dict[str, Any]]:
    """Every model on the same tasks, at its own setting or at several thresholds; ``each`` is called after every model.

    All that can be wrong is found before the first answer.
    """
    if min(length, batch_rows, samples) < 1 or shots < 0 or (limit is not None and limit < 1):
        raise SettingError("--length, --batch-rows, --samples, --limit are 1 or more, --shots 0 or more; correct them")
    if bool(shots) != bool(shots_from):
        raise SettingError("--shots and --shots-from belong together; pass both: how many examples, and of which file")
    from ..evaluation import ask, solve, sweep
    from ..jsonl import written_objects
    from ..tasks import read_tasks
    from .models import open_text_model

    tasks = read_tasks(task, limit)
    examples = read_tasks(shots_from, shots + 1) if shots_from else []  # one more, where a task is among them
    _enough(tasks, examples, shots, shots_from)
    opened = [(name, open_text_model(name, system, dtype, device, decoding)) for name in models]
    asked = [ask(model, tasks, length, examples, shots, chat) for _, model in opened]
    sweeps = [_as_it_is(model) if thresholds is None else sweep(model, thresholds) for _, model in opened]
    for _, model in opened:
        solve(model, (), length, batch_rows, seed, samples)  # its settings
    found = []
    with written_objects(out) if out else nullcontext() as write:
        for (name, model), rows, (dial, chosen) in zip(opened, asked, sweeps, strict=True):
            if each is None:
                say(f"asking {name} ({model.system.title})")
            points = []
            for value, changed in chosen:
                about = {"model": name, "threshold": value}

                def keep(one: Solution, about: dict[str, Any] = about) -> None:
                    if write is not None:
                        write(about | _line(one))

                done = solve(changed, rows, length, batch_rows, seed, samples, keep, progress=True)
                points.append({"dial": dial, "threshold": value, **_point(done)})
            about = {"model": name, "system": model.system.name, "task": task, "tasks": len(tasks), "shots": shots}
            how = {"chat": chat, "samples": samples, "length": length, "batch_rows": batch_rows, "seed": seed}
            found.append({**about, **how, "settings": model.settings.model_dump(mode="json"), "points": points})
            if each is not None:
                each(found[-1])
    if out:
        say(f"{Path(out)} has every answer with its verdict")
    return found


def _enough(tasks: Sequence[Task], examples: Sequence[Task], shots: int, shots_from: str | None) -> None:
    own = {task.prompt for task in tasks} & {example.prompt for example in examples}
    have = len(examples) - bool(own)
    if have < shots:
        raise SettingError(f"{shots_from} has {have} examples beside the task; pass --shots {have}, or another file")


def _as_it_is(model: Model) -> tuple[str | None, list[tuple[float | None, Model]]]:
    """The one point of a model at its own settings, as ``sweep`` gives points."""
    dial = model.system.dial[0] if model.system.dial else None
    return dial, [(getattr(model.settings, dial) if dial else None, model)]


def _point(done: Solutions) -> dict[str, Any]:
    several = done.samples > 1
    return {
        "accuracy": done.accuracy,
        "interval": done.interval,
        "right": done.right,
        "answers": len(done.records),
        "pass_any": done.pass_any if several else None,
        "pass_any_interval": done.pass_any_interval if several else None,
        "cut": done.cut,
        "tokens": done.tokens,
        "forwards": done.forwards,
        "tokens_per_forward": done.tokens_per_forward,
        "tokens_per_second": done.tokens_per_second,
        "seconds": done.seconds,
    }


def _line(one: Solution) -> dict[str, Any]:
    """An answer as --out has it."""
    return {
        "task": one.task.name,
        "sample": one.sample,
        "right": one.verdict.right,
        "verdict": one.verdict.said,
        "completion": one.text,
        "tokens": one.tokens,
        "forwards": one.forwards,
        "stopped": one.stopped,
        "seed": one.seed,
    }


def show_solved(found: Sequence[dict[str, Any]]) -> None:
    """The table of what was solved."""
    several = found[0]["samples"] > 1
    head = ["model", "threshold", "accuracy", "95%", "right", "tokens per forward", "tokens/s", "tokens", "cut"]
    rows = []
    for one in found:
        for point in one["points"]:
            rows.append(
                [
                    one["model"],
                    dialled(point),
                    point["accuracy"],
                    span(point["interval"]),
                    f"{point['right']} of {point['answers']}",
                    point["tokens_per_forward"],
                    point["tokens_per_second"],
                    point["tokens"],
                    point["cut"],
                    *([point["pass_any"]] if several else []),
                ]
            )
    many = found[0]["samples"]
    table([*head, *([f"pass@{many}"] if several else [])], rows, f"{found[0]['task']}: {found[0]['tasks']:,} tasks")
    if any(point["cut"] for one in found for point in one["points"]):
        say(f"cut: answers that were not over after {found[0]['length']} tokens; a longer --length may solve more")
