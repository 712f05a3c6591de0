"""SDAR in minutes: does a brief adaptation keep the accuracy, and how many tokens does a forward then fix?

Four networks of one shape learn additions with written carries: an autoregressive one; from it, at equal steps, its
block-diffusion twin and the same autoregression continued; and block diffusion from random weights with the work of
both stages together (a row of block diffusion holds two copies, and is twice the work of an autoregressive one).
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..generation import collect, generate
from ..nn import Transformer, TransformerConfig
from ..systems import Parts, find
from ..training.loop import train
from ..training.parallel import start
from ..training.settings import TrainSettings
from ..training.text import DataSettings, text_rows
from ..worlds.additions import Additions
from ..worlds.tokenizer import END_ID, MASK_ID, encode
from .protocol import Arm, Findings, Say

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Budget", "check"]

THRESHOLDS = (0.95, 0.9, 0.8)


@dataclass(frozen=True)
class Budget:
    """What the check may spend; the defaults are the ones whose record is kept."""

    base: int = 160  # optimizer steps of the autoregressive model
    further: int = 160  # of its adaptation, and of its continuation
    rows: int = 24  # per step, of `length` tokens: four additions each
    length: int = 176
    problems: int = 400  # held-out additions
    learning_rate: float = 5e-3
    hidden_size: int = 128
    num_layers: int = 4
    block_size: int = 4

    @property
    def scratch(self) -> int:
        """Steps of block diffusion from random weights that are the work of both stages."""
        return self.further + self.base // 2


@dataclass(frozen=True)
class Cost:
    """Training so far, from random weights."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0


def check(say: Say, seed: int = 0, budget: Budget | None = None) -> Findings:
    """Train the four arms, answer the same held-out additions with each, and compare."""
    budget = budget or Budget()
    with tempfile.TemporaryDirectory() as folder:
        return _Check(say, seed, budget, Path(folder)).run()


class _Check:
    def __init__(self, say: Say, seed: int, budget: Budget, folder: Path) -> None:
        self.say, self.seed, self.budget, self.folder = say, seed, budget, folder
        self.world = Additions()
        self.tokenizer: Tokenizer = self.world.tokenizer()
        self.end, self.mask = END_ID, MASK_ID
        self.prompts = self.world.prompts(budget.problems, seed)
        self.runs = 0

    def run(self) -> Findings:
        say, b = self.say, self.budget
        say(f"autoregression, {b.base} steps")
        base = self.network()
        cost = self.train(base, self.parts("ar"), 1, b.base, Cost())
        say(f"autoregression continued, {b.further} steps")
        continued = copy.deepcopy(base)
        continued_cost = self.train(continued, self.parts("ar"), 1, b.further, cost)
        say(f"the first model adapted to block diffusion, {b.further} steps")
        adapted = copy.deepcopy(base)
        adapted_cost = self.train(adapted, self.parts("sdar"), b.block_size, b.further, cost)
        say(f"block diffusion from random weights, {b.scratch} steps")
        scratch = self.network()
        scratch_cost = self.train(scratch, self.parts("sdar"), b.block_size, b.scratch, Cost())

        say(f"answers to {b.problems} held-out additions")
        static = self.parts("sdar", reveal="static")
        arms = {
            "AR": self.arm(base, self.parts("ar"), cost, "next token"),
            "AR continued": self.arm(continued, self.parts("ar"), continued_cost, "the same, trained further"),
            "SDAR, static": self.arm(adapted, static, adapted_cost, "adapted from AR, one token a step"),
        }
        for threshold in THRESHOLDS:
            fast = self.parts("sdar", reveal="dynamic", threshold=threshold)
            arms[f"SDAR, threshold {threshold}"] = self.arm(adapted, fast, adapted_cost, "sure tokens together")
        arms["from scratch, static"] = self.arm(scratch, static, scratch_cost, "block diffusion without AR weights")
        return self.findings(arms)

    def network(self) -> Transformer:
        b = self.budget
        config = TransformerConfig(
            vocab_size=self.tokenizer.get_vocab_size(),
            hidden_size=b.hidden_size,
            intermediate_size=b.hidden_size * 11 // 4,
            num_layers=b.num_layers,
            head_dim=b.hidden_size // 4,
            max_positions=b.length,
        )
        return Transformer(config).initialise(torch.Generator().manual_seed(self.seed))

    def parts(self, name: str, **changes: object) -> Parts:
        system = find(name)
        block_size = self.budget.block_size if name == "sdar" else None
        return system.parts(system.settings.but(mask_id=self.mask, block_size=block_size, **changes))

    def train(self, network: Transformer, parts: Parts, multiple: int, steps: int, before: Cost) -> Cost:
        b = self.budget
        self.runs += 1
        data = DataSettings(data="additions", length=b.length, cache=self.folder / "cache")
        seed = 1000 * self.seed + self.runs  # every stage has an order and noise of its own
        rows = text_rows(data, self.tokenizer, "train", multiple, seed, self.end)
        settings = TrainSettings(
            out=self.folder / f"run{self.runs}",
            steps=steps,
            batch_rows=b.rows,
            learning_rate=b.learning_rate,
            warmup=min(30, steps // 2),
            optimizer="muon",
            seed=seed,
            evaluate_every=steps,
            checkpoint_every=steps,
        )
        took: dict[str, float] = {}
        train(network, parts.objective, rows, settings, on_log=took.update)
        network.eval()
        tokens = before.tokens + steps * b.rows * b.length
        return Cost(before.steps + steps, tokens, before.seconds + took["seconds"])

    def arm(self, network: Transformer, parts: Parts, cost: Cost, about: str) -> Arm:
        right, tokens, forwards = self.answers(network, parts)
        numbers = {"exact match": right / len(self.prompts), "tokens per forward": tokens / forwards}
        if parts.process.feeds_draft:
            again = self.answers(network, parts, fuse=False)[2]
            numbers["tokens per forward, commits counted apart"] = tokens / again
        return Arm(numbers=numbers, steps=cost.steps, tokens=cost.tokens, seconds=round(cost.seconds, 1), about=about)

    def answers(self, network: Transformer, parts: Parts, fuse: bool = True) -> tuple[int, int, int]:
        """How many answers are right in every character, and the tokens and forwards of all of them."""
        right = tokens = forwards = 0
        length = len(self.world.complete(self.prompts[0])) + 1  # the end token
        for prompts in _batches(self.prompts, 100):
            ids = [encode(self.tokenizer, prompt) for prompt in prompts]
            events = generate(network, ids, length, stop=(self.end,), fuse=fuse, **parts.sampling)
            for prompt, result in zip(prompts, collect(events, ids, length, (self.end,)), strict=True):
                right += self.world.verify(prompt, self.tokenizer.decode(result.content.tolist()))
                tokens += len(result.content)
                forwards += result.forwards
        return right, tokens, forwards

    def findings(self, arms: dict[str, Arm]) -> Findings:
        def of(name: str, number: str = "exact match") -> float:
            return arms[name].numbers[number]

        continued, adapted, scratch = of("AR continued"), of("SDAR, static"), of("from scratch, static")
        fast, speed = of("SDAR, threshold 0.9"), of("SDAR, threshold 0.9", "tokens per forward")
        b = self.budget
        error = 2 * (0.25 / b.problems) ** 0.5
        why = (
            f"Greedy, one token a step, the adapted model answers {adapted:.1%} of {b.problems} unseen additions, "
            f"autoregression continued for as many steps {continued:.1%}, and block diffusion from random weights with "
            f"the work of both stages {scratch:.1%}; at threshold 0.9 the adapted model keeps {fast:.1%} at "
            f"{speed:.2f} tokens per forward (every forward is a denoising step, commits ride along). One seed; a "
            f"share is sure to about ±{error:.0%} at worst."
        )
        size = sum(p.numel() for p in self.network().parameters())
        precision = TrainSettings(out=self.folder).autocast(start().device)
        return Findings(
            arms=arms,
            baseline="AR continued",
            conditions={
                "adapted >= AR continued - 2 points": adapted >= continued - 0.02,
                "adapted > from scratch + 3 points": adapted > scratch + 0.03,
                "threshold 0.9: at least 1.5 tokens per forward": speed >= 1.5,
                "threshold 0.9: at most 1 point lost": fast >= adapted - 0.01,
            },
            why=why,
            setting=f"3-digit additions with written carries, a token per character; {b.num_layers} layers, width "
            f"{b.hidden_size}, {size / 1e6:.2f} M parameters; block_size {b.block_size}; {b.rows} rows of {b.length} "
            f"tokens a step, Muon {b.learning_rate}, {precision}",
            seeds=[self.seed],
        )


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
