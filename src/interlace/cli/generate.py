"""interlace generate"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting, command
from .console import print_json, say, styled
from .constraining import CONSTRAINTS, constraint
from .models import OPENING, open_text_model
from .prompts import prompts
from .settings import DECODING, MODEL

if TYPE_CHECKING:
    from ..generation import Event
    from ..model import Model
    from ..writing import Writing

SEED = Setting("seed", int, "of all random draws; a row draws the same alone and in a batch", 0, panel="Decoding")


@command(
    Setting("prompt", str, "text to continue; without it, --file, --tokens or stdin is read", place=True, file=False),
    Setting("model", str, MODEL.help, "twin", short="-m"),
    Setting("length", int, "new tokens", 64, short="-n"),
    Setting(
        "file",
        str,
        "prompts: one a line, or JSON lines (*.jsonl) with prompt or tokens, length, seed, regex or json_schema",
        short="-f",
    ),
    Setting("tokens", str, "the prompt as token ids: '1 2 3' or a JSON list; a list of lists is a batch", file=False),
    Setting("stop", list[str], "end a row before this text, besides the model's stop tokens; may be repeated"),
    Setting("drafts", bool, "show what is not final yet; ░ is a token that is still open", False),
    Setting("echo", bool, "print the prompt too", shown="in a terminal"),
    Setting("batch_rows", int, "prompts generated at once", 16),
    *DECODING,
    Setting("schedule", str, "another path, as `interlace show` takes it", shown="the system's", panel="Decoding"),
    Setting(
        "memory",
        str,
        "exact keeps the past, none computes it anew: the same text; block lets keys inside a block get stale",
        shown="the system's",
        panel="Decoding",
    ),
    *CONSTRAINTS,
    SEED,
    *OPENING,
    panel="Use",
)
def generate(
    prompt: str | None,
    model: str,
    length: int,
    file: str | None,
    tokens: str | None,
    stop: list[str] | None,
    drafts: bool,
    echo: bool | None,
    batch_rows: int,
    schedule: str | None,
    memory: str | None,
    regex: str | None,
    json_schema: str | None,
    seed: int,
    system: str | None,
    dtype: str | None,
    device: str | None,
    json: bool,
    **decoding: Any,
) -> None:
    """Continue texts. A text is printed while it is written: a unit (a token, a block) as soon as it is final.

    The text goes to stdout; in a terminal, the speed goes to stderr.

    [bold]Examples[/bold]
      interlace generate 'def area(width, height):'
      interlace generate 'def area(width, height):' --model base --length 32
      interlace generate 'class Stack:' --threshold 0.6 --drafts
      interlace generate --temperature 0.8 --top-p 0.95 --seed 1 < start.py
      interlace generate --file prompts.jsonl --json > rows.jsonl
      interlace generate --tokens '17 4 92' --json
      interlace generate 'year = ' --regex '(19|20)[0-9]{2}'
      interlace generate 'point = ' --json-schema point.json

    With --json every row is an object: row, prompt, prompt_tokens, text, tokens,
    stopped, forwards, tokens_per_forward, log_probs (of each token when it was
    fixed), order (the step of its unit that fixed it), seconds, seed.
    """
    if batch_rows < 1:
        raise SettingError(f"--batch-rows is {batch_rows}; pass 1 or more")
    if drafts and json:
        raise SettingError("--drafts and --json exclude each other; pass one of them")
    if stop is not None and not all(stop):
        raise SettingError("--stop is an empty text, with which everything would end; pass a text")
    held = constraint(regex, json_schema)
    rows = prompts(prompt, file, tokens)
    if stop and (held or any(row.constraint for row in rows)):
        raise SettingError("--stop may cut a text before it matches what it is held to; leave one of them out")
    options: dict[str, Any] = {"drafts": drafts, "details": json} | ({"memory": memory} if memory else {})
    if schedule is not None:
        from ..schedules import parse_schedule

        options["schedule"] = parse_schedule(schedule)
    loaded = open_text_model(model, system, dtype, device, decoding)
    if loaded.tokenizer is None and (drafts or stop):
        raise SettingError(f"{model} has no tokenizer, which --drafts and --stop need; add the tokenizer's files")
    shown = echo if echo is not None else sys.stdout.isatty()

    from ..writing import unwritten
    from .writing import Drafts

    began, written, forwards = time.perf_counter(), 0, 0
    streams = len(rows) == 1 and not json and not drafts and loaded.tokenizer is not None
    for first in range(0, len(rows), batch_rows):
        some = rows[first : first + batch_rows]
        ids = [loaded.encode_prompt(row.content) if isinstance(row.content, str) else row.content for row in some]
        lengths = [length if row.length is None else row.length for row in some]
        seeds = [seed if row.seed is None else row.seed for row in some]
        writings = unwritten(loaded, ids, [stop or ()] * len(ids))
        options |= {"seed": seeds, "constraints": [row.constraint or held for row in some]}
        steps = _steps(loaded, ids, lengths, writings, options)
        if drafts:
            heads = [loaded.text(one) for one in ids] if shown else None
            with Drafts(loaded.tokenizer, [len(one) for one in ids], lengths, heads) as table:
                for event, _, _ in steps:
                    table.show(event)
        if streams:
            _echo(loaded, ids[0], shown)
            for _, new, _ in steps:
                print(new, end="", flush=True)
            print(flush=True)
        for number, seconds in () if streams else _in_order(steps, writings):
            writing = writings[number]
            if json:
                facts = {"prompt": some[number].content, "prompt_tokens": ids[number], "seed": seeds[number]}
                print_json(_report(first + number, facts, writing, seconds))
                continue
            if len(rows) > 1:
                print(f"--- {first + number}")
            _echo(loaded, ids[number], shown)
            print(writing.text if loaded.tokenizer is not None else " ".join(map(str, writing.tokens)), flush=True)
        written += sum(len(writing.tokens) for writing in writings)
        forwards += sum(writing.forwards for writing in writings)
    if sys.stderr.isatty():
        seconds_all = time.perf_counter() - began
        rate = f"{written / max(1, forwards):.2f} tokens per forward, {written / max(seconds_all, 1e-9):,.0f} tokens/s"
        say(f"{written} tokens, {forwards} forwards, {seconds_all:.2f} s: {rate}")


def _steps(
    model: Model, ids: list[list[int]], lengths: list[int], writings: Sequence[Writing], options: dict[str, Any]
) -> Iterator[tuple[Event, str, float]]:
    """Every event with the text that it makes final and the time since the start, until every row is done."""
    from ..writing import write

    began = time.perf_counter()
    for event, new in write(model, ids, lengths, writings, **options):
        yield event, new, time.perf_counter() - began


def _in_order(steps: Iterator[tuple[Event, str, float]], writings: Sequence[Writing]) -> Iterator[tuple[int, float]]:
    """Number and time of every row, as soon as it and all before it are done."""
    seconds = [0.0] * len(writings)
    ready = 0
    for event, _, passed in steps:
        seconds[event.row] = passed
        while ready < len(writings) and writings[ready].done:
            yield ready, seconds[ready]
            ready += 1
    for number in range(ready, len(writings)):
        yield number, seconds[number]


def _report(number: int, facts: dict[str, Any], writing: Writing, seconds: float) -> dict[str, Any]:
    """A row as --json prints it."""
    return {
        "row": number,
        "prompt": facts["prompt"] if isinstance(facts["prompt"], str) else None,
        "prompt_tokens": facts["prompt_tokens"],
        "text": None if writing.tokenizer is None else writing.text,
        "tokens": writing.tokens,
        "stopped": writing.stopped,
        "forwards": writing.forwards,
        "tokens_per_forward": round(len(writing.tokens) / max(1, writing.forwards), 4),
        "log_probs": [round(value, 6) for value in writing.log_probs],
        "order": writing.order,
        "seconds": round(seconds, 6),
        "seed": facts["seed"],
    }


def _echo(model: Model, ids: list[int], wanted: bool) -> None:
    if wanted and model.tokenizer is not None:
        print(styled(model.text(ids), "2"), end="", flush=True)
