"""SDAR in minutes: does a brief adaptation keep the accuracy, and how many tokens does a forward then fix?

Four networks of one shape learn additions with written carries: an autoregressive one; from it, at equal steps, its
block-diffusion twin and the same autoregression continued; and block diffusion from random weights with the work of
both stages together (a row of block diffusion holds two copies, and is twice the work of an autoregressive one).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from .protocol import Arm, Findings, Say
from .workbench import Bench, Cost
from .workbench import Budget as Common

__all__ = ["Budget", "check"]

THRESHOLDS = (0.95, 0.9, 0.8)


@dataclass(frozen=True)
class Budget(Common):
    """What the check may spend."""

    @property
    def scratch(self) -> int:
        """Steps of block diffusion from random weights that are the work of both stages."""
        return self.further + self.base // 2


def check(say: Say, seed: int = 0, budget: Budget | None = None) -> Findings:
    """Train the four arms, answer the same held-out additions with each, and compare."""
    return _Check.check(say, seed, budget or Budget())


class _Check(Bench):
    budget: Budget

    def run(self) -> Findings:
        say, b = self.say, self.budget
        say(f"autoregression, {b.base} steps")
        base = self.network()
        cost = self.train(base, self.parts("ar").objective, 1, b.base, Cost())
        say(f"autoregression continued, {b.further} steps")
        continued = copy.deepcopy(base)
        continued_cost = self.train(continued, self.parts("ar").objective, 1, b.further, cost)
        say(f"the first model adapted to block diffusion, {b.further} steps")
        adapted = copy.deepcopy(base)
        adapted_cost = self.train(adapted, self.parts("sdar").objective, b.block_size, b.further, cost)
        say(f"block diffusion from random weights, {b.scratch} steps")
        scratch = self.network()
        scratch_cost = self.train(scratch, self.parts("sdar").objective, b.block_size, b.scratch, Cost())

        say(f"answers to {b.problems} held-out additions")
        static = self.parts("sdar", reveal="static")
        arms = {
            "AR": self.arm(base, self.parts("ar"), cost, "next token"),
            "AR continued": self.arm(continued, self.parts("ar"), continued_cost, "the same, trained further"),
            "SDAR, static": self.arm(adapted, static, adapted_cost, "adapted from AR, one token a step", apart=True),
        }
        for threshold in THRESHOLDS:
            fast = self.parts("sdar", reveal="dynamic", threshold=threshold)
            arms[f"SDAR, threshold {threshold}"] = self.arm(
                adapted, fast, adapted_cost, "sure tokens together", apart=True
            )
        arms["from scratch, static"] = self.arm(
            scratch, static, scratch_cost, "block diffusion without AR weights", apart=True
        )
        return self.findings(arms)

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
            setting=self.setting(),
            seeds=[self.seed],
        )
