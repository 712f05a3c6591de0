"""What a shared prompt saves: requests that begin alike, and as many that do not, through one engine each.

    python benchmarks/prefix.py --shared 1024 --requests 32

Prints tokens of prompts that were computed, seconds to the first unit (median), and seconds in all, with the ratio.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import interlace
from interlace.engine import Engine, Failure, Request
from interlace.report.files import write_whole


def run(model: Any, prompts: list[list[int]], length: int) -> dict[str, float]:
    """All prompts at once, behind one request that leaves its pages for the others."""
    engine = Engine(model)
    engine.add(Request(tuple(prompts[0]), 1, stop=()))
    while engine.busy:
        engine.step()
    before = engine.stats()
    began, first = time.perf_counter(), {}
    numbers = [engine.add(Request(tuple(prompt), length, stop=())) for prompt in prompts[1:]]
    while engine.busy:
        for event in engine.step():
            assert not isinstance(event, Failure), event
            first.setdefault(event.row, time.perf_counter() - began)
    after = engine.stats()
    asked, found = after.prompt_tokens - before.prompt_tokens, after.cached_tokens - before.cached_tokens
    return {
        "prompt_tokens": asked,
        "computed": asked - found,
        "first_unit_seconds": statistics.median(first[number] for number in numbers),
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="twin")
    parser.add_argument("--shared", type=int, default=1024)
    parser.add_argument("--own", type=int, default=16)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "prefix.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, rng = interlace.load(options.model, dtype="float32"), random.Random(0)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(300, model.checkpoint.config.vocab_size) for _ in range(count)]

    common = tokens(options.shared)
    every = range(options.requests + 1)
    found = {
        "shared": run(model, [common + tokens(options.own) for _ in every], options.length),
        "distinct": run(model, [tokens(options.shared + options.own) for _ in every], options.length),
    }
    for name, row in found.items():
        print(
            f"{name:9} {row['computed']:6,} of {row['prompt_tokens']:,} prompt tokens computed, first unit after "
            f"{row['first_unit_seconds']:.2f} s, all after {row['seconds']:.2f} s"
        )
    print(f"distinct / shared: {found['distinct']['seconds'] / found['shared']['seconds']:.2f}")
    write_whole(options.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
