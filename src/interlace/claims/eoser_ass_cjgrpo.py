"""EOSER, ASS and CJ-GRPO in minutes: is the end-of-sequence trap there, does damping open it, and what does it help to
score an answer along the path that it took?

Part 1: one network that writes numbers as sums of digits, its answers padded with end tokens, decoded in many ways.
Part 2: it, and half-trained ones that play Countdown and Sudoku, reinforced by three methods at equal forwards.
"""

from __future__ import annotations

import copy
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from ..checkpoints import Checkpoint
from ..generation import generate
from ..model import Model
from ..nn import Transformer, TransformerConfig
from ..reinforcement import ReinforceSettings, reinforce
from ..systems import find
from ..training.answers import AnswerRows
from ..training.loop import train
from ..training.parallel import start
from ..training.policy import METHODS
from ..training.settings import TrainSettings
from ..worlds.puzzle import Problem, Puzzle, puzzle
from ..worlds.tokenizer import END_ID, MASK_ID, decode, encode
from .protocol import Arm, Findings, Say

__all__ = ["Budget", "check"]

NAME = "eoser-ass-cjgrpo"


@dataclass(frozen=True)
class Budget:
    """What the check may spend; the defaults are the ones whose record is kept."""

    steps: int = 3000  # optimizer steps on sums
    most: int = 3000  # and at most on a world until its network is half-trained, which is looked at ...
    every: int = 25  # ... after so many
    half: float = 0.3  # what a half-trained network earns, of what lies between guessing and the whole reward
    rows: int = 64
    learning_rate: float = 1e-2
    hidden_size: int = 64
    num_layers: int = 3
    length: int = 16  # tokens of a sum, its end tokens included
    judged: int = 400  # answers per measurement
    updates: int = 200  # of CJ-GRPO; the others take as many as give equal forwards
    problems: int = 4  # per update
    answers: int = 8  # to each
    policy_rate: float = 5e-4
    seeds: int = 3  # of the reinforcement


@dataclass(frozen=True)
class World:
    """How a puzzle is answered: tokens, denoising steps of a rollout, what guessing every token would earn, and the
    share of the budget's updates: rows twice as long cost twice the time."""

    length: int
    steps: int
    guess: float = 0.0
    share: float = 1.0

    def goal(self, half: float) -> float:
        """The mean reward of a half-trained network."""
        return self.guess + half * (1 - self.guess)


WORLDS = {"countdown": World(8, 4), "sudoku": World(16, 4, guess=0.25, share=0.6)}
"""Beside the sums. A cell of Sudoku holds one of four digits."""


class _Enough(Exception):
    """A network is half-trained."""


DECODINGS: dict[str, dict[str, Any]] = {
    "full, 16 steps": {"steps": 16, "eoser": False},
    "full, 8 steps": {"steps": 8, "eoser": False},
    "full, 4 steps": {"steps": 4, "eoser": False},
    "semi-AR, 16 steps": {"steps": 16, "eoser": False, "blocks": 4},
    "semi-AR, 8 steps": {"steps": 8, "eoser": False, "blocks": 4},
    "semi-AR, 4 steps": {"steps": 4, "eoser": False, "blocks": 4},
    **{f"EOSER {least}, {steps} steps": {"steps": steps, "least": least} for least in (0.4, 0.1, 0.01)
       for steps in (16, 8, 4)},
    "ASS": {"ass": True, "eoser": False},
    "ASS + EOSER": {"ass": True},
}  # fmt: skip
FIRST, LENGTH, GREEDY, DRAWN, FORWARDS = (
    "first reveal is an end token", "tokens of an answer", "right, T=0", "right, T=1", "forwards"
)  # fmt: skip
REWARD, BEFORE, HELD = "mean reward at the end", "reward at the start", "held-out reward, T=0"


def check(say: Say, seed: int = 0, budget: Budget | None = None) -> Findings:
    """Train the networks, decode the first in every way, and reinforce all by the three methods."""
    with tempfile.TemporaryDirectory() as folder:
        return _Check(say, seed, budget or Budget(), Path(folder)).run()


class _Check:
    def __init__(self, say: Say, seed: int, budget: Budget, folder: Path) -> None:
        self.say, self.seed, self.budget, self.folder = say, seed, budget, folder

    def run(self) -> Findings:
        b = self.budget
        sums, _, seconds = self.trained("sums", b.steps, b.length)
        cost = {"steps": b.steps, "tokens": b.steps * b.rows * b.length, "seconds": seconds}
        arms = {}
        self.say(f"{len(DECODINGS)} ways to decode")
        for name, changes in DECODINGS.items():
            arms[name] = Arm(numbers=self.decoded(sums, changes), about="decoding of one network", **cost)
        arms |= self.reinforced("sums", sums, b.length // 2, cost)
        for name, one in WORLDS.items():
            half, steps, seconds = self.trained(name, b.most, one.length, one)
            cost = {"steps": steps, "tokens": steps * b.rows * one.length, "seconds": seconds}
            arms |= self.reinforced(name, half, one.steps, cost, one.share)
        return self.findings(arms, sums)

    def trained(self, name: str, steps: int, length: int, until: World | None = None) -> tuple[Model, int, float]:
        """A network that has learnt to answer the problems of a world: masked diffusion of padded answers.

        ``until``: only until the mean reward of held-out answers, drawn as the reinforcement will draw them, first
        reaches its goal. Beside the network: after how many steps and seconds.
        """
        b, world = self.budget, puzzle(name)
        self.say(f"{name}, {steps} steps")
        tokenizer = world.tokenizer()
        config = TransformerConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=b.hidden_size,
            intermediate_size=b.hidden_size * 11 // 4,
            num_layers=b.num_layers,
            num_heads=4,
            num_kv_heads=4,
            head_dim=b.hidden_size // 4,
            max_positions=64,
        )
        network = Transformer(config).initialise(torch.Generator().manual_seed(self.seed))
        system = find(NAME)
        settings = system.settings.but(mask_id=MASK_ID, eos_ids=(END_ID,), block_size=length)
        rows = AnswerRows(lambda i: world.problem(i, "train", self.seed), tokenizer, length, END_ID)
        checkpoint = Checkpoint(network, tokenizer, "interlace", stop_token_ids=(END_ID,), mask_token_id=MASK_ID)
        model, took = Model(checkpoint, system, settings), dict[str, float]()
        every = steps if until is None else min(b.every, steps)
        training = self.settings(
            self.folder / name, steps, b.learning_rate, batch_rows=b.rows, optimizer="muon", evaluate_every=every
        )

        def drawn(_: Transformer) -> dict[str, float]:
            assert until is not None
            rollouts = model.with_(ass=False, steps=until.steps, temperature=1.0)
            return {"reward": self.answers(rollouts, world.problems(b.judged, seed=self.seed), world)[0]}

        def log(facts: dict[str, Any]) -> None:
            took.update(facts)
            if until is not None and facts.get("reward", -1.0) >= until.goal(b.half):
                raise _Enough

        with suppress(_Enough):
            train(network, system.parts(settings).objective, rows, training, None, [drawn] if until else None, log)
        network.eval()
        return model, int(took["step"]), round(took["seconds"], 1)

    def settings(self, out: Path, steps: int, rate: float, **changes: Any) -> TrainSettings:
        base = {"warmup": min(30, steps // 2), "evaluate_every": steps, "checkpoint_every": steps, "seed": self.seed}
        return TrainSettings(out=out, steps=steps, learning_rate=rate, **(base | changes))

    def decoded(self, model: Model, changes: dict[str, Any]) -> dict[str, float]:
        """What a way of decoding writes: greedy over all prompts there are, and drawn."""
        world = puzzle("sums")
        prompts = dict.fromkeys(problem.prompt for problem in world.problems(1000))
        greedy = [Problem(prompt, "") for prompt in sorted(prompts)]
        drawn = world.problems(self.budget.judged, seed=self.seed)
        model = model.with_(**({"ass": False} | changes))
        right, first, length, forwards = self.answers(model, greedy, world)
        sampled = self.answers(model.with_(temperature=1.0), drawn, world)[0]
        return {FIRST: first, LENGTH: length, GREEDY: right, DRAWN: sampled, FORWARDS: forwards}

    def answers(self, model: Model, problems: list[Problem], world: Puzzle) -> tuple[float, float, float, float]:
        """Mean reward, share of end tokens in the first step, mean length and forwards of answers."""
        prompts = [encode(model.tokenizer, problem.prompt) for problem in problems]
        length, count = model.settings.block_size, len(problems)  # type: ignore[attr-defined]
        rows = torch.zeros((count, length), dtype=torch.long)
        firsts, forwards = [], 0
        for event in generate(model.network, prompts, length, **model.parts.sampling, seed=list(range(count))):
            rows[event.row, event.start - len(prompts[event.row])] = event.content[0].cpu()
            if event.forwards == 1:
                firsts.append(int(event.content[0]) == END_ID)
            forwards = max(forwards, event.forwards)
        texts = []
        for row in rows.tolist():
            texts.append(row[: row.index(END_ID)] if END_ID in row else row)
        rewards = [
            world.reward(problem.prompt, decode(model.tokenizer, text))
            for problem, text in zip(problems, texts, strict=True)
        ]
        return sum(rewards) / count, sum(firsts) / len(firsts), sum(map(len, texts)) / count, float(forwards)

    def reinforced(
        self, name: str, model: Model, steps: int, cost: dict[str, Any], share: float = 1.0
    ) -> dict[str, Arm]:
        """The three methods from the same network, the same rollouts at first, at equal forwards."""
        b, world = self.budget, puzzle(name)
        model = model.with_(ass=False, steps=steps)
        arms = {}
        for method in METHODS:
            scored = METHODS[method].count(steps)
            updates = max(1, round(b.updates * share) * 2 * steps // (steps + scored))
            self.say(f"{name}, {method}: {updates} updates x {b.seeds}")
            ends, begins, held, took = [], [], [], 0.0
            for run in range(b.seeds):
                fresh = Model(copy.copy(model.checkpoint), model.system, model.settings)
                fresh.checkpoint.network = copy.deepcopy(model.network)
                log: list[dict[str, Any]] = []
                training = self.settings(
                    self.folder / f"{name}-{method}-{run}", updates, b.policy_rate, shape="constant", warmup=0,
                    weight_decay=0.0, seed=1000 * self.seed + run, evaluate_rows=min(b.judged, 200),
                )  # fmt: skip
                chosen = ReinforceSettings(
                    method=cast(Any, method), num_prompts=b.problems, num_generations=b.answers, beta=0.0
                )
                reinforce(fresh, world, training, chosen, on_log=log.append)
                tail = max(1, updates // 10)
                begins.append(sum(one["reward"] for one in log[:tail]) / len(log[:tail]))
                ends.append(sum(one["reward"] for one in log[-tail:]) / tail)
                held.append(log[-1]["held_out_reward"])
                took += log[-1]["seconds"]
            numbers = {REWARD: sum(ends) / b.seeds, "worst seed": min(ends), "best seed": max(ends)}
            numbers |= {HELD: sum(held) / b.seeds, BEFORE: sum(begins) / b.seeds}
            numbers |= {FORWARDS: float(updates * (steps + scored))}
            length = model.settings.block_size  # type: ignore[attr-defined]
            tokens = cost["tokens"] + updates * b.problems * b.answers * scored * length
            arms[f"{name}, {method}"] = Arm(
                numbers=numbers,
                steps=cost["steps"] + updates,
                tokens=tokens,
                seconds=round(cost["seconds"] + took / b.seeds, 1),
                about=f"reinforced, {steps} denoising steps with EOSER",
            )
        return arms

    def findings(self, arms: dict[str, Arm], model: Model) -> Findings:
        b = self.budget

        def of(name: str, number: str) -> float:
            return arms[name].numbers[number]

        half = b.length // 2
        trap, freed = of("full, 16 steps", FIRST), of("EOSER 0.4, 16 steps", FIRST)
        plain, damped = of(f"full, {half} steps", GREEDY), of(f"EOSER 0.4, {half} steps", GREEDY)
        best = {
            name: all(
                of(f"{name}, cj-grpo", REWARD) > of(f"{name}, {other}", REWARD) for other in ("one-step", "diffu-grpo")
            )
            for name in ("sums", *WORLDS)
        }
        ends = {
            name: ", ".join(f"{method} {of(f'{name}, {method}', REWARD):.2f}" for method in METHODS) for name in best
        }
        why = (
            f"An end token comes first in {trap:.0%} of the answers, with EOSER in {freed:.0%}, and they grow from "
            f"{of('full, 16 steps', LENGTH):.1f} to {of('EOSER 0.4, 16 steps', LENGTH):.1f} tokens; at 2 tokens a step "
            f"{plain:.0%} and {damped:.0%} are right (T=0; T=1 {of(f'full, {half} steps', DRAWN):.0%} and "
            f"{of(f'EOSER 0.4, {half} steps', DRAWN):.0%}); in {int(of('ASS', FORWARDS))} doubling steps "
            f"{of('ASS', GREEDY):.0%}, with EOSER {of('ASS + EOSER', GREEDY):.0%}. Reinforced, sums end at a mean "
            f"reward of {ends['sums']} (from {of('sums, cj-grpo', BEFORE):.2f}), Countdown at {ends['countdown']} "
            f"(from {of('countdown, cj-grpo', BEFORE):.2f}), Sudoku at {ends['sudoku']} "
            f"(from {of('sudoku, cj-grpo', BEFORE):.2f}); {b.seeds} seeds of the reinforcement, one of the networks."
        )
        size = sum(p.numel() for p in model.network.parameters())
        precision = self.settings(self.folder, 1, 1.0).autocast(start().device)
        return Findings(
            arms=arms,
            baseline="full, 16 steps",
            conditions={
                "without damping over 80% of the answers begin with an end token": trap > 0.8,
                "with EOSER under 20%": freed < 0.2,
                "EOSER is right more often than full diffusion at 2 tokens a step": damped > plain,
                "CJ-GRPO has the best mean reward on sums": best["sums"],
                "CJ-GRPO has the best mean reward on Countdown": best["countdown"],
                "CJ-GRPO has the best mean reward on Sudoku": best["sudoku"],
            },
            why=why,
            setting=f"sums of digits, {b.length} tokens, Countdown with 2 or 3 numbers, {WORLDS['countdown'].length} "
            f"tokens, and Sudoku of 4 x 4 cells, {WORLDS['sudoku'].length} tokens, a token per character, padded with "
            f"end tokens that are learnt; sums trained for {b.steps} steps, the others until answers drawn at "
            f"temperature 1 earn {b.half:.0%} of what lies between guessing and the whole reward (looked at every "
            f"{b.every} steps, at most {b.most}); {b.num_layers} layers, width "
            f"{b.hidden_size}, {size / 1e6:.2f} M parameters; {b.rows} rows a step, Muon {b.learning_rate}; "
            f"reinforcement with {b.problems} problems x {b.answers} answers an update, {b.updates} updates of CJ-GRPO "
            f"(Sudoku {round(b.updates * WORLDS['sudoku'].share)}), AdamW {b.policy_rate}, epsilon "
            f"0.5, no KL, one update on an answer; greedy answers to all 25 sums; {precision}",
            seeds=[self.seed],
        )
