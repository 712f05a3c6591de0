"""What the loop costs beside the forwards that it asks for, in one run: every text system on one random network.

    python benchmarks/overhead.py                       # the bundled shape, all systems
    python benchmarks/overhead.py --systems sdar tidar --length 64 --threads 1
    python benchmarks/overhead.py --shape 100m --only-decode --rounds 3 --out benchmarks/results/overhead-100m.json
    python benchmarks/overhead.py --shape rl --only-rollouts --systems llada eoser-ass-cjgrpo --prompt 3 --length 32 \
        --out benchmarks/results/rollouts.json

decode    a generation of batch 1, over the time of its own forwards bare: the same tokens, positions, masks, memory
          and heads again, recorded beforehand, and no loop around them. Goal: 1.15 at most.
prompts   token slots that a step of WeDLM is given, behind prompts of several lengths. Goal: the same for all, up to
          what the text makes of the window.
rollouts  tokens per second of 8 and of 64 rows in a batch at temperature 1, over those of 8 rows one after the other;
          beside it what the bare forwards of both allow. Rows are half as long here. Goal: 4. The shape ``rl`` is the
          network that the check of CJ-GRPO reinforces, with its answers of 16 tokens in 8 steps (--prompt 3
          --length 32).

The contestants take turns within a round, so that a busy moment meets both; a figure is the median of the rounds' own
ratios. Prints ratios and writes them as JSON. On a machine that others use too, ``--threads 1 --clock cpu`` counts the
time of this process alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interlace.claims.protocol import Machine
from interlace.generation import Result, collect, generate
from interlace.nn import Transformer
from interlace.nn.native import accelerated
from interlace.recipes import ShapeSettings
from interlace.report.files import write_whole
from interlace.systems import Parts, find, systems

MASK, NEVER = 1, -2
DECODE, ROLLOUTS = 1.15, 4.0
ALONE = 8
"""Rollouts that are made one after the other."""
SHAPES: dict[str, dict[str, int]] = {
    "bundled": {},
    "100m": {
        "hidden_size": 768, "intermediate_size": 2048, "num_layers": 12, "num_heads": 12, "num_kv_heads": 4,
        "vocab_size": 32768,
    },
    "rl": {
        "hidden_size": 64, "intermediate_size": 176, "num_layers": 3, "num_heads": 4, "num_kv_heads": 4,
        "head_dim": 16, "vocab_size": 32, "max_positions": 64,
    },
}  # fmt: skip


@dataclass
class Tape:
    """The network of the loop, with all that it is asked: calls of the blocks, and of the head."""

    network: Any
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)

    @property
    def config(self) -> Any:
        return self.network.config

    def parameters(self) -> Iterator[Tensor]:
        return iter([self.weight])

    def __post_init__(self) -> None:
        self.weight = next(self.network.parameters())
        self.network = accelerated(self.network)

    def __call__(
        self, content: Tensor, positions: Tensor, mask: Any, memory: Any, slots: Tensor, **told: Any
    ) -> Tensor:
        # a copy keeps its storage when rows of the batch end
        self.calls.append((content, positions, mask, copy.copy(memory), slots))
        return self.network(content, positions, mask, memory, slots, **told)

    def head(self, hidden: Tensor) -> Tensor:
        self.heads.append(hidden)
        return self.network.head(hidden)

    @torch.inference_mode()
    def replay(self) -> None:
        """Every forward and head again, without the loop."""
        for call, hidden in zip(self.calls, self.heads, strict=True):
            self.network(*call)
            self.network.head(hidden)


SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "rl": {
        "llada": {"block_size": 16, "steps": 8},
        "eoser-ass-cjgrpo": {"block_size": 16, "steps": 8, "ass": False, "eos_ids": (2,)},
    },
}
"""What rollouts of a shape change in the settings of a system."""


def parts_of(name: str, **changes: Any) -> Parts:
    system = find(name)
    return system.parts(system.settings.but(**({} if name == "ar" else {"mask_id": MASK}), **changes))


def run(network: Any, parts: Parts, prompts: list[list[int]], length: int, seeds: list[int]) -> list[Result]:
    """Whole rows: no token stops them, but every unit is searched for one."""
    events = generate(network, prompts, length, stop=(NEVER,), seed=seeds, **parts.sampling)
    return collect(events, prompts, length, (NEVER,))


@dataclass
class Clock:
    """Takes the time of two contestants in turn. now: seconds."""

    now: Callable[[], float]
    rounds: int

    def __call__(self, turn: Callable[[], Any]) -> float:
        began = self.now()
        turn()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self.now() - began

    def versus(self, one: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float, float]:
        """Best seconds of both, and the median of one / other over the rounds; who begins alternates."""
        pairs = []
        for number in range(self.rounds + 1):
            first = self(one) if number % 2 else 0.0
            second = self(other)
            pairs.append((first or self(one), second))
        pairs = pairs[1:]  # the first round warms up
        ratio = statistics.median(a / b for a, b in pairs)
        return min(a for a, _ in pairs), min(b for _, b in pairs), ratio


def decode(network: Transformer, name: str, prompt: list[int], length: int, clock: Clock) -> dict[str, Any]:
    parts = parts_of(name)
    tape = Tape(network)
    run(tape, parts, [prompt], length, [0])
    loop, bare, ratio = clock.versus(lambda: run(network, parts, [prompt], length, [0]), tape.replay)
    count = len(tape.calls)
    slots = sum(call[0].shape[1] for call in tape.calls) / count
    return {
        "forwards": count,
        "slots per forward": slots,
        "ms per forward": loop / count * 1e3,
        "bare ms per forward": bare / count * 1e3,
        "ratio": ratio,
    }


def prompts(network: Transformer, lengths: list[int], length: int) -> dict[str, Any]:
    """Of every step of WeDLM but the first, which reads the prompt."""
    found = {}
    for size in lengths:
        tape = Tape(network)
        run(tape, parts_of("wedlm"), [numbers(size)], length, [0])
        steps = tape.calls[1:]
        found[str(size)] = sum(call[0].numel() for call in steps) / len(steps)
    return found


def rollouts(
    network: Transformer, name: str, prompt: list[int], length: int, rows: int, clock: Clock, **changes: Any
) -> dict[str, Any]:
    parts = parts_of(name, temperature=1.0, **changes)

    def alone(network: Any) -> None:
        for seed in range(ALONE):
            run(network, parts, [prompt], length, [seed])

    def together(network: Any) -> None:
        run(network, parts, [prompt] * rows, length, list(range(rows)))

    tapes = Tape(network), Tape(network)
    alone(tapes[0])
    together(tapes[1])
    more = rows / ALONE  # tokens that the batch makes for every one of the others
    slow, fast, ratio = clock.versus(lambda: alone(network), lambda: together(network))
    _, _, bare = clock.versus(tapes[0].replay, tapes[1].replay)
    speeds = {"tokens per second": rows * length / fast, "one at a time": ALONE * length / slow}
    return {**speeds, "ratio": ratio * more, "bare ratio": bare * more}


def numbers(count: int, vocabulary: int = 2048) -> list[int]:
    return torch.randint(4, vocabulary, (count,), generator=torch.Generator().manual_seed(count)).tolist()


def main() -> None:
    names = [name for name, system in systems().items() if system.family == "text"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="*", default=names, choices=names, metavar="NAME")
    parser.add_argument("--prompt", type=int, default=64, help="prompt tokens")
    parser.add_argument("--length", type=int, default=64, help="new tokens")
    parser.add_argument("--rows", type=int, nargs="*", default=[8, 64], help="rollouts in a batch")
    parser.add_argument("--prompts", type=int, nargs="*", default=[16, 64, 128, 256, 512])
    parser.add_argument("--shape", choices=list(SHAPES), default="bundled")
    parser.add_argument("--only-decode", action="store_true")
    parser.add_argument("--only-rollouts", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overhead.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = replace(ShapeSettings().config(2048), **SHAPES[options.shape])
    network = Transformer(config).initialise(torch.Generator().manual_seed(0), std=0.05)
    network.to(options.device).eval().requires_grad_(False)
    report: dict[str, Any] = {"machine": Machine.here().model_dump()}
    kept = ("shape", "prompt", "length", "rows", "rounds", "threads", "clock", "device")
    report |= {name: getattr(options, name) for name in kept}
    prompt = numbers(options.prompt, config.vocab_size)
    clock = Clock(time.process_time if options.clock == "cpu" else time.perf_counter, options.rounds)

    report["decode"] = {}
    for name in () if options.only_rollouts else options.systems:
        found = report["decode"][name] = decode(network, name, prompt, options.length, clock)
        print(
            f"decode    {name:<14} {found['forwards']:>4} forwards of {found['slots per forward']:>6.1f} tokens, "
            f"{found['ms per forward']:>6.2f} ms each, bare {found['bare ms per forward']:>6.2f}: "
            f"{found['ratio']:.2f} (goal {DECODE})"
        )
    if "wedlm" in options.systems and not options.only_decode and not options.only_rollouts:
        report["prompts"] = prompts(network, options.prompts, options.length)
        said = ", ".join(f"{slots:.2f} behind {size}" for size, slots in report["prompts"].items())
        print(f"prompts   wedlm: token slots per step {said}")
    report["rollouts"] = {}
    for name in () if options.only_decode else options.systems:
        changes = SETTINGS.get(options.shape, {}).get(name, {})
        clock.rounds = options.rounds if options.shape == "rl" else 3
        of = report["rollouts"][name] = {}
        for rows in options.rows:
            found = of[str(rows)] = rollouts(network, name, prompt, options.length // 2, rows, clock, **changes)
            print(
                f"rollouts  {name:<14} {rows:>3} at once {found['tokens per second']:>7,.0f} tokens/s, one at a time "
                f"{found['one at a time']:>6,.0f}: {found['ratio']:.2f} (goal {ROLLOUTS:g}), bare "
                f"{found['bare ratio']:.2f}"
            )
    write_whole(options.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
