"""interlace continue"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SettingError
from .command import Setting, command
from .console import bar, facts, print_json, say
from .generate import SEED
from .models import OPENING, open_text_model
from .settings import DATA, DECODING, MODEL


@command(
    replace(MODEL, default="base", help="who writes: a folder, a Hugging Face name, or a bundled model"),
    Setting("out", str, "file of JSON lines to write", required=True),
    Setting("texts", int, "how many", 1000, short="-n"),
    Setting("prompt_tokens", int, "longest prompt, taken of the corpus", 128),
    Setting("length", int, "tokens of a text, its prompt included", 256),
    Setting("batch_rows", int, "texts written at once", 64),
    *(s for s in DATA if s.name in ("data", "limit_bytes", "field")),
    *DECODING,
    SEED,
    *OPENING,
    panel="Train",
    name="continue",
)
def continue_(
    model: str,
    out: str,
    texts: int,
    prompt_tokens: int,
    length: int,
    batch_rows: int,
    data: str,
    limit_bytes: int | None,
    field: str,
    seed: int,
    system: str | None,
    dtype: str | None,
    device: str | None,
    json: bool,
    **decoding: Any,
) -> None:
    """Write a corpus with a model: beginnings out of a text, and how the model goes on.

    For sequence-level distillation: greedy text has one continuation, where
    human text has many, so a model that is adapted on what its base writes can
    be surer of its tokens and fix more of them per forward.

    Beginnings come from the training split. The file is JSON lines with prompt,
    text, stopped, tokens, key; adapt takes it as --data. A run that was stopped or
    killed goes on when the same command is given again.

    [bold]Examples[/bold]
      interlace continue --out written.jsonl --texts 200 --length 128
      interlace adapt --data 'stdlib,written.jsonl*2' --out adapted
      interlace continue --model Qwen/Qwen3-0.6B --data corpus.jsonl --out written.jsonl

    With --json the summary is an object: out, texts, new_tokens, stopped, seconds.
    """
    for name, value in (("texts", texts), ("prompt-tokens", prompt_tokens), ("batch-rows", batch_rows)):
        if value < 1:
            raise SettingError(f"--{name} is {value}; pass 1 or more")
    if length <= prompt_tokens:
        raise SettingError(f"--length {length} leaves no room behind {prompt_tokens} prompt tokens; pass a longer one")
    if Path(out).exists():
        raise SettingError(f"--out {out} exists; remove it, or pass another name")
    loaded = open_text_model(model, system, dtype, device, decoding)
    most = loaded.checkpoint.config.max_positions
    if length > most:
        raise SettingError(f"--length {length} exceeds the model's {most} positions; pass a shorter one")
    if loaded.tokenizer is None:
        raise SettingError(f"{model} has no tokenizer, which the texts need; add the tokenizer's files")

    from ..continuations import text_prompts, write_continuations
    from ..training.text import DataSettings, mixture
    from .config import make

    corpus = make(DataSettings, {"data": data, "limit_bytes": limit_bytes, "field": field})
    prompts = list(text_prompts(mixture(corpus, "train"), texts, loaded.tokenizer, prompt_tokens, seed))
    facts({"model": model, "system": loaded.system.title, "data": data, "texts": texts, "out": out})
    began = time.perf_counter()
    with bar("continuing", texts) as count:

        def done(number: int) -> None:
            for _ in range(number):
                count()

        written = write_continuations(loaded, prompts, out, length, batch_rows, seed, done)
    seconds = time.perf_counter() - began
    new, stopped = _summary(written)
    if json:
        about = {"out": str(written), "texts": texts, "new_tokens": new, "stopped": stopped}
        print_json(about | {"seconds": round(seconds, 3)})
        return
    print(f"{written} holds {texts:,} texts with {new:,} new tokens; {stopped:,} ended by themselves")
    say(f"learn from it    interlace adapt --data '{data},{written}*2' --out DIR")


def _summary(path: Path) -> tuple[int, int]:
    """New tokens and ended texts of a file."""
    import json

    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return sum(row["tokens"] for row in rows), sum(row["stopped"] for row in rows)
