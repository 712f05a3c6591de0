"""What a constraint costs: making its automaton, and masking a step; for the bundled vocabulary and for one of 150,000.

    python benchmarks/constraints.py

The larger vocabulary is the bundled one and random pairs and triples of its tokens, so that it has long tokens as large
vocabularies have. Times are those of this process on one core, the best of some rounds. The last figures are whole
generations of the bundled twin, with the constraint and without, with the same number of new tokens.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import interlace
from interlace.claims.protocol import Machine
from interlace.constraints import OPEN, Automaton, Constraint, compiled, json_schema, lifted, regex, vocabulary
from interlace.report.files import write_whole

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
    },
    "required": ["name", "age"],
}


def optional(count: int) -> dict[str, Any]:
    """An object of so many properties, none of which is needed."""
    properties = {f"property {number}": {"type": "string"} for number in range(count)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


CONSTRAINTS: dict[str, Callable[[], Constraint]] = {
    "a number": partial(regex, "-?[0-9]+"),
    "up to 100 characters": partial(regex, ".{0,100}"),
    "a person": partial(json_schema, PERSON),
    "up to 20 persons": partial(json_schema, {"type": "array", "items": PERSON, "maxItems": 20}),
    **{f"{count} optional strings": partial(json_schema, optional(count)) for count in (50, 100, 300)},
}


def best(run: Callable[[], Any], rounds: int = 5) -> float:
    """Milliseconds."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return round(min(times) * 1e3, 3)


def larger(words: tuple[bytes, ...], count: int) -> tuple[bytes, ...]:
    rng = np.random.default_rng(0)
    pieces = [word for word in words if len(word) > 1]
    found = dict.fromkeys(word for word in words if word)
    while len(found) < count:
        found[b"".join(pieces[i] for i in rng.integers(len(pieces), size=rng.integers(2, 4)))] = None
    return tuple(found)


def masked(automaton: Automaton, places: int) -> Callable[[], Any]:
    """The mask over the vocabulary of so many open places, with 100 tokens behind them."""
    tokens, device = np.full(places, OPEN), torch.device("cpu")

    def run() -> Any:
        return torch.from_numpy(automaton.allowed(automaton.start, tokens, 100))[:, automaton.on(device)]

    run()  # what is kept for later steps is made once
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "constraints.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    twin = interlace.load("twin")
    small = vocabulary(twin.tokenizer, twin.checkpoint.config.vocab_size, (twin.checkpoint.mask_token_id or 0,)).words
    found: dict[str, Any] = {"machine": Machine.here().__dict__}
    bytewise, texts = {}, {}
    for name, make in CONSTRAINTS.items():  # once: what is made is kept
        began = time.process_time()
        texts[name] = compiled(make().pattern)
        bytewise[name] = (time.process_time() - began) * 1e3
    for words in (small, larger(small, 150_000)):
        for name, text in texts.items():
            automaton = lifted(text, words)
            found[f"{len(words)} tokens, {name}"] = row = {
                "states": automaton.states,
                "symbols": automaton.count,
                "ms over bytes": round(bytewise[name], 1),
                "ms over tokens": best(lambda text=text, words=words: lifted(text, words), 2),
                **{f"ms to mask {n}": best(masked(automaton, n)) for n in (1, 4, 32)},
            }
            print(f"{len(words):7} {name:22}", *(f"{key} {value}" for key, value in row.items()), sep="  ")
    for size in (24, 96):
        held = regex(f"[a-z ]{{{4 * size},}}")
        pair = {}
        for name, constraint in (("free", None), ("held", held)):
            options: dict[str, Any] = {"stop": (), "constraint": constraint}
            result = twin.complete("x = ", size, **options)
            pair[name] = {
                "forwards": result.forwards,
                "ms": best(lambda options=options, size=size: twin.complete("x = ", size, **options), 3),
            }
        found[f"twin, {size} tokens"] = pair
        print(f"twin, {size} tokens:", pair)
    write_whole(arguments.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
