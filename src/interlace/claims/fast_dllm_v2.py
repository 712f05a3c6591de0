"""Fast-dLLM v2 in minutes: what complementary masks and the token shift are worth, and what the sub-block cache spares.

From one autoregressive network, at equal steps: the same continued, the recipe, the recipe with two independent masks
a row in place of complementary ones, and without the token shift. (Padding to whole blocks, the recipe's third part,
has no counterpart here: documents never share a block.)
"""

from __future__ import annotations

from dataclasses import replace

from ..layouts import Blocks
from ..processes import AbsorbingMask
from ..schedules import BlockByBlock
from ..training.objectives import TwoCopyLoss
from .protocol import Arm, Findings, Say
from .workbench import Bench, Budget

__all__ = ["BUDGET", "check"]

BUDGET = Budget(further=90, block_size=8)
SUB_BLOCK = 4


def check(say: Say, seed: int = 0, budget: Budget = BUDGET) -> Findings:
    """Train the arms, answer the same held-out additions with each, and compare."""
    return _Check.check(say, seed, budget)


class _Check(Bench):
    def run(self) -> Findings:
        b = self.budget
        recipe = self.parts("fast-dllm-v2", threshold=1.0, sub_block_size=SUB_BLOCK)
        fast, stale = (
            self.parts("fast-dllm-v2", sub_block_size=SUB_BLOCK, sub_block_cache=cache) for cache in (False, True)
        )
        assert isinstance(recipe.objective, TwoCopyLoss) and isinstance(recipe.process, AbsorbingMask)
        base, cost = self.begin()
        arms = {"AR continued": self.continued(base, cost)}

        network, spent = self.adapted(base, cost, recipe.objective, "the recipe")
        arms["one token a step"] = self.arm(network, recipe, spent, "shift, complementary masks")
        arms["threshold 0.9"] = self.arm(network, fast, spent, "sure tokens together")
        arms["threshold 0.9, sub-block cache"] = self.arm(network, stale, spent, "keys of other sub-blocks stale")

        independent = replace(recipe.objective, views="independent")
        network, spent = self.adapted(base, cost, independent, "independent masks")
        arms["independent masks"] = self.arm(network, recipe, spent, "two masks a row that know nothing of each other")

        process = replace(recipe.process, shift=0)
        network, spent = self.adapted(base, cost, replace(recipe.objective, process=process), "no token shift")
        straight = replace(
            recipe, process=process, layout=Blocks(b.block_size), pattern=self.parts("sdar").pattern,
            schedule=BlockByBlock(b.block_size),
        )  # fmt: skip
        arms["no shift"] = self.arm(network, straight, spent, "tokens predicted at themselves")
        return self.findings(arms)

    def findings(self, arms: dict[str, Arm]) -> Findings:
        def of(name: str, number: str = "exact match") -> float:
            return arms[name].numbers[number]

        continued, slow, quick = of("AR continued"), of("one token a step"), of("threshold 0.9")
        cached, speed = of("threshold 0.9, sub-block cache"), of("threshold 0.9", "tokens per forward")
        slots = [of(name, "token slots per token") for name in ("threshold 0.9", "threshold 0.9, sub-block cache")]
        independent = of("independent masks")
        error = 2 * (0.25 / self.budget.problems) ** 0.5
        why = (
            f"One token a step the recipe answers {slow:.1%} of {self.budget.problems} unseen additions (AR continued "
            f"{continued:.1%}, independent masks {independent:.1%}, no shift {of('no shift'):.1%}); at threshold 0.9 "
            f"{quick:.1%} at {speed:.2f} tokens per forward. The sub-block cache spends {slots[1]:.2f} token slots on "
            f"a token in place of {slots[0]:.2f}, and answers {cached:.1%}. One seed; a share is sure to about "
            f"±{error:.0%} at worst."
        )
        return Findings(
            arms=arms,
            baseline="AR continued",
            conditions={
                "recipe >= AR continued - 2 points": slow >= continued - 0.02,
                "complementary masks >= independent ones": slow >= independent,
                "threshold 0.9: at least 2 tokens per forward": speed >= 2,
                "threshold 0.9: at most 1 point lost": quick >= slow - 0.01,
                "sub-block cache: a quarter of the token slots saved": slots[1] <= 0.75 * slots[0],
                "sub-block cache: at most 1 point lost": cached >= quick - 0.01,
            },
            why=why,
            setting=self.setting() + f", sub-blocks of {SUB_BLOCK}",
            seeds=[self.seed],
        )
