"""interlace generate"""

from __future__ import annotations

import sys
import time
from typing import Any

from .command import Setting, command
from .console import print_json
from .settings import DECODING, MODEL


@command(
    Setting("prompt", str, "text to continue; without it, --file, --tokens or stdin is read", place=True, file=False),
    Setting("model", str, MODEL.help, "twin", short="-m"),
    Setting("length", int, "new tokens", 64, short="-n"),
    Setting("seed", int, "seed of all random draws", 0),
    *DECODING,
    panel="Use",
    config=True,
)
def generate(prompt: str | None, model: str, length: int, seed: int, json: bool, **decoding: Any) -> None:
    """Continue a text; it streams as units become clean."""
    from ..model import load
    from ..worlds.tokenizer import TextStream

    loaded = load(model, **decoding)
    text = prompt if prompt is not None else sys.stdin.read().removesuffix("\n")
    began = time.monotonic()
    if json:
        result = loaded.complete(text, length, seed=seed, details=True)
        print_json(
            {
                "text": loaded.text(result.content),
                "tokens": result.content.tolist(),
                "forwards": result.forwards,
                "tokens_per_forward": result.tokens_per_forward,
                "seconds": time.monotonic() - began,
            }
        )
        return
    stream = TextStream(loaded.tokenizer)
    stop = set(loaded.checkpoint.stop_token_ids)
    for event in loaded.stream([text], length, seed=seed):
        ids = event.content.tolist()[max(0, len(loaded.encode(text)) - event.start) :]
        for place, token in enumerate(ids):
            if token in stop:
                ids = ids[:place]
                break
        print(stream.push(ids), end="", flush=True)
    print(stream.flush())
