"""interlace infill"""

from __future__ import annotations

import time
from typing import Any

from ..errors import SettingError
from .command import Setting, command
from .console import print_json, styled
from .constraining import CONSTRAINTS, constraint
from .generate import SEED
from .models import OPENING, open_text_model
from .prompts import gaps, token_ids
from .settings import DECODING, MODEL


@command(
    Setting(
        "text", str, "text with a hole in it, <FILL:24>; without it, --file or stdin is read", place=True, file=False
    ),
    Setting("model", str, MODEL.help, "twin", short="-m"),
    Setting("prefix", str, "what stands before the hole", file=False),
    Setting("suffix", str, "what stands behind the hole", file=False),
    Setting("prefix_tokens", str, "the prefix as token ids: '1 2 3' or a JSON list", file=False),
    Setting("suffix_tokens", str, "the suffix as token ids", file=False),
    Setting(
        "file",
        str,
        "a text with a hole; or JSON lines (*.jsonl): prefix, suffix (or prefix_tokens, suffix_tokens), length, seed, "
        "regex or json_schema",
        short="-f",
    ),
    Setting("length", int, "tokens to fill in, where the hole says nothing", 24, short="-n"),
    Setting("only", bool, "print what was filled in, without prefix and suffix", False),
    *DECODING,
    *CONSTRAINTS,
    SEED,
    *OPENING,
    panel="Use",
)
def infill(
    text: str | None,
    model: str,
    prefix: str | None,
    suffix: str | None,
    prefix_tokens: str | None,
    suffix_tokens: str | None,
    file: str | None,
    length: int,
    only: bool,
    regex: str | None,
    json_schema: str | None,
    seed: int,
    system: str | None,
    dtype: str | None,
    device: str | None,
    json: bool,
    **decoding: Any,
) -> None:
    """Fill a hole between what stands before it and what stands behind it.

    The hole is marked <FILL:24> in a text: 24 tokens; <FILL> takes --length. A
    model adapted with --suffix-first sees both sides whole; any other block
    diffusion model sees of the suffix what lies in the hole's last block. An
    autoregressive model cannot infill.

    [bold]Examples[/bold]
      interlace infill 'def area(width, height):<FILL:12> * height'
      interlace infill --prefix 'x = ' --suffix ' + 1' --length 4 --only
      interlace infill 'total = <FILL:3> + 1' --regex '[a-z]+'
      interlace infill --file holed.py > whole.py
      interlace infill --file gaps.jsonl --json

    With --json every row is an object: row, text, tokens (of the filling), whole,
    prefix_tokens, suffix_tokens, forwards, tokens_per_forward, seconds, seed.
    """
    held = constraint(regex, json_schema)
    before = _side(prefix, prefix_tokens, "prefix")
    after = _side(suffix, suffix_tokens, "suffix")
    rows = gaps(text, file, before, after)
    loaded = open_text_model(model, system, dtype, device, decoding)
    known = loaded.tokenizer is not None
    for number, row in enumerate(rows):
        left, right = (
            read(one) if isinstance(one, str) and (known or one) else list(one)
            for one, read in ((row.prefix, loaded.encode_prompt), (row.suffix, loaded.encode))
        )
        size, start = length if row.length is None else row.length, seed if row.seed is None else row.seed
        if size < 0:
            raise SettingError(f"the length of the hole is {size}; pass 0 or more")
        began = time.perf_counter()
        result = loaded.infill(left, right, size, row.constraint or held, seed=start)  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
        filling = result.content.tolist()
        sides = [one if isinstance(one, str) else loaded.text(one) if known else "" for one in (row.prefix, row.suffix)]
        filled = loaded.text(filling) if known else " ".join(map(str, filling))
        if json:
            print_json(
                {
                    "row": number,
                    "text": filled if known else None,
                    "tokens": filling,
                    "whole": filled.join(sides) if known else None,
                    "prefix_tokens": left,
                    "suffix_tokens": right,
                    "forwards": result.forwards,
                    "tokens_per_forward": round(len(filling) / max(1, result.forwards), 4),
                    "seconds": round(seconds, 6),
                    "seed": start,
                }
            )
            continue
        if len(rows) > 1:
            print(f"--- {number}")
        if not only:
            filled = styled(filled, "1;32").join(sides)
        print(filled, flush=True)


def _side(text: str | None, tokens: str | None, name: str) -> str | list[int] | None:
    """A side of the hole, given as a text or as token ids."""
    if text is not None and tokens is not None:
        raise SettingError(f"--{name} and --{name}-tokens exclude each other; pass one of them")
    if tokens is None:
        return text
    rows = token_ids(tokens, f"--{name}-tokens")
    if len(rows) != 1:
        raise SettingError(f"--{name}-tokens are {len(rows)} rows; pass one, or several holes by --file")
    return rows[0]
