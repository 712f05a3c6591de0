"""Training throughput on one machine, in one run: the two-copy rows of block diffusion against next-token prediction.

Both arms train the bundled base on the same text in as many rows of the same length: an adaptation to SDAR, whose
network reads every row twice, and the base's own objective. Prints label tokens per second and their ratio, and writes
them as JSON.

    python benchmarks/training.py                       # 8 rows of 256, eager and compiled (compiling takes minutes)
    python benchmarks/training.py --no-compile --rows 24 --length 384 --optimizer muon

A turn is one step: forward, backward, clipping and the optimizer. The arms take turns, so that a busy moment meets all
of them; the figure is each one's best turn, and beside the ratio stands the median of the rounds' own ratios.
On a machine that others use too, ``--threads 1 --clock cpu`` counts the time of this process alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import nn

import interlace
from interlace.claims.protocol import Machine
from interlace.hardware import fast_bfloat16
from interlace.recipes import free_token
from interlace.report.files import write_whole
from interlace.systems import find
from interlace.training.batch import TextRows
from interlace.training.loop import Learner
from interlace.training.objectives import Objective
from interlace.training.optimizers import make_optimizers
from interlace.worlds.corpus import open_corpus
from interlace.worlds.packing import PackedRows, tokenize_corpus

Turn = Callable[[int], float]
GOAL = 0.45


def arm(system: str, options: argparse.Namespace, compile: bool) -> Turn:
    """A turn's step with that number; returns its label tokens per second."""
    checkpoint = interlace.load("base", system="ar", dtype=torch.float32).checkpoint
    found, multiple = find(system), 1
    objective: Objective = found.parts(found.settings).objective
    if system != "ar":
        multiple = options.block_size
        objective = found.parts(found.settings.but(mask_id=free_token(checkpoint), block_size=multiple)).objective
    files = islice(open_corpus("stdlib", "train"), 100)
    rows = TextRows(PackedRows(tokenize_corpus(files, checkpoint.tokenizer), options.length, multiple))
    learner = Learner(checkpoint.network, objective, compile).to(options.device)
    learner.train()
    optimizers = make_optimizers(learner.named_parameters(), options.optimizer, weight_decay=0.1)
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = 1e-5
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    half = fast_bfloat16(options.device) if options.precision == "auto" else options.precision == "bf16"
    autocast = partial(torch.autocast, options.device, torch.bfloat16, half)

    def turn(step: int) -> float:
        began = clock()
        batch = rows.batch(range(step * options.rows, (step + 1) * options.rows)).to(torch.device(options.device))
        with autocast():
            total, count = learner(batch, 0, step)
        (total / count).backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if options.device == "cuda":
            torch.cuda.synchronize()
        return float(count) / (clock() - began)

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8, help="rows of a step")
    parser.add_argument("--length", type=int, default=256, help="tokens per row")
    parser.add_argument("--block-size", type=int, default=8)
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "training.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, object] = {"machine": Machine.here().model_dump(), "python": platform.python_version()}
    names = ("rows", "length", "block_size", "optimizer", "precision", "rounds", "threads", "clock", "device")
    report |= {name: getattr(options, name) for name in names}

    forms = {"eager": False} | ({"compiled": True} if options.compile else {})
    turns = {(form, system): arm(system, options, how) for form, how in forms.items() for system in ("ar", "sdar")}
    seen: dict[tuple[str, str], list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        for step in range(2):
            turn(step)
    for step in range(2, options.rounds + 2):
        for name, turn in turns.items():
            seen[name].append(turn(step))
    for form in forms:
        once, twice = seen[form, "ar"], seen[form, "sdar"]
        ratio = max(twice) / max(once)
        median = statistics.median(b / a for a, b in zip(once, twice, strict=True))
        report[form] = {"next token": max(once), "two copies": max(twice), "ratio": ratio, "median ratio": median}
        print(f"{form}: next token {max(once):,.0f} tokens/s, two copies {max(twice):,.0f} tokens/s")
        print(f"{form}: two copies / next token {ratio:.2f} (median of the rounds {median:.2f}; goal {GOAL})")

    write_whole(options.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
