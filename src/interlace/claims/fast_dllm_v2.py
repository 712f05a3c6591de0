"""Fast-dLLM v2 in minutes: what complementary masks, padding and the token shift are worth, and what the sub-block
cache spares.

From one autoregressive network, at equal steps: the same continued, the recipe, the recipe with two independent masks
a row in place of complementary ones, without padding, and without the token shift. Three seeds, networks of their own,
the last arm of the first one alone.

Without padding there are two arms. In one the documents are kept apart, and blocks begin and end anywhere in them: what
padding is worth. In the other, the naive packing, documents are one text, share blocks and see each other; a prompt
that nothing stands before is then a thing that was never learnt, which is more than padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..layouts import Blocks
from ..processes import AbsorbingMask
from ..schedules import BlockByBlock
from ..training.objectives import TwoCopyLoss
from .protocol import Arm, Findings, Say
from .workbench import Bench
from .workbench import Budget as Common

__all__ = ["Budget", "check"]

SUB_BLOCK = 4


@dataclass(frozen=True)
class Budget(Common):
    """What the check may spend; ``seeds``: networks of their own, whose numbers are averaged."""

    further: int = 90
    block_size: int = 8
    seeds: int = 3


def check(say: Say, seed: int = 0, budget: Budget | None = None) -> Findings:
    """Train the arms, answer the same held-out additions with each, and compare."""
    return _Check.check(say, seed, budget or Budget())


class _Check(Bench):
    budget: Budget

    def run(self) -> Findings:
        found: dict[str, list[Arm]] = {}
        for number in range(self.budget.seeds):
            bench = self if not number else _Check(self.say, self.seed + number, self.budget, self.folder / str(number))
            bench._corpora = self._corpora
            for name, arm in bench.trained(shiftless=not number).items():
                found.setdefault(name, []).append(arm)
        return self.findings({name: _mean(runs) for name, runs in found.items()})

    def trained(self, shiftless: bool) -> dict[str, Arm]:
        """The arms of one seed; ``shiftless``: that without the token shift too."""
        b = self.budget
        recipe = self.parts("fast-dllm-v2", threshold=1.0, sub_block_size=SUB_BLOCK)
        fast, stale = (
            self.parts("fast-dllm-v2", sub_block_size=SUB_BLOCK, sub_block_cache=cache) for cache in (False, True)
        )
        assert isinstance(recipe.objective, TwoCopyLoss) and isinstance(recipe.process, AbsorbingMask)
        base, cost = self.begin()
        arms = {"AR continued": self.continued(base, cost)}

        network, spent = self.adapted(base, cost, recipe.objective, "the recipe")
        arms["one token a step"] = self.arm(network, recipe, spent, "shift, complementary masks, whole blocks")
        arms["threshold 0.9"] = self.arm(network, fast, spent, "sure tokens together")
        arms["threshold 0.9, sub-block cache"] = self.arm(network, stale, spent, "keys of other sub-blocks stale")

        independent = replace(recipe.objective, views="independent")
        network, spent = self.adapted(base, cost, independent, "independent masks")
        arms["independent masks"] = self.arm(network, recipe, spent, "two masks a row that know nothing of each other")

        unpadded = replace(recipe.objective, anywhere=True)
        network, spent = self.adapted(base, cost, unpadded, "no padding", multiple=1)
        arms["no padding"] = self.arm(network, recipe, spent, "blocks begin and end anywhere in a document")

        network, spent = self.adapted(base, cost, recipe.objective, "naive packing", joined=True)
        arms["naive packing"] = self.arm(network, recipe, spent, "documents share blocks and see each other")

        if shiftless:
            process = replace(recipe.process, shift=0)
            network, spent = self.adapted(base, cost, replace(recipe.objective, process=process), "no token shift")
            straight = replace(
                recipe, process=process, layout=Blocks(b.block_size), pattern=self.parts("sdar").pattern,
                schedule=BlockByBlock(b.block_size),
            )  # fmt: skip
            arms["no shift"] = self.arm(network, straight, spent, "tokens predicted at themselves")
        return arms

    def findings(self, arms: dict[str, Arm]) -> Findings:
        def of(name: str, number: str = "exact match") -> float:
            return arms[name].numbers[number]

        continued, slow, quick = of("AR continued"), of("one token a step"), of("threshold 0.9")
        cached, speed = of("threshold 0.9, sub-block cache"), of("threshold 0.9", "tokens per forward")
        slots = [of(name, "token slots per token") for name in ("threshold 0.9", "threshold 0.9, sub-block cache")]
        independent, unpadded = of("independent masks"), of("no padding")
        seeds = self.budget.seeds
        error = 2 * (0.25 / self.budget.problems / seeds) ** 0.5
        why = (
            f"One token a step the recipe answers {slow:.1%} of {self.budget.problems} unseen additions (AR continued "
            f"{continued:.1%}, independent masks {independent:.1%}, no padding {unpadded:.1%}, naive packing "
            f"{of('naive packing'):.1%}, no shift, one seed, "
            f"{of('no shift'):.1%}); at threshold 0.9 {quick:.1%} at {speed:.2f} tokens per forward. The sub-block "
            f"cache spends {slots[1]:.2f} token slots on a token in place of {slots[0]:.2f}, and answers {cached:.1%}. "
            f"Means of {seeds} seeds; a share of the same networks is sure to about ±{error:.0%} at worst."
        )
        return Findings(
            arms=arms,
            baseline="AR continued",
            conditions={
                "recipe >= AR continued - 2 points": slow >= continued - 0.02,
                "complementary masks >= independent ones": slow >= independent,
                "padding to whole blocks > none": slow > unpadded,
                "threshold 0.9: at least 2 tokens per forward": speed >= 2,
                "threshold 0.9: at most 1 point lost": quick >= slow - 0.01,
                "sub-block cache: a quarter of the token slots saved": slots[1] <= 0.75 * slots[0],
                "sub-block cache: at most 1 point lost": cached >= quick - 0.01,
            },
            why=why,
            setting=self.setting() + f", sub-blocks of {SUB_BLOCK}",
            seeds=list(range(self.seed, self.seed + seeds)),
        )


def _mean(runs: list[Arm]) -> Arm:
    """One arm of several seeds: means, and the worst and the best share of right answers."""
    numbers = {name: sum(run.numbers[name] for run in runs) / len(runs) for name in runs[0].numbers}
    if len(runs) > 1:
        shares = [run.numbers["exact match"] for run in runs]
        numbers |= {"worst seed": min(shares), "best seed": max(shares)}
    seconds = round(sum(run.seconds for run in runs) / len(runs), 1)
    return runs[0].model_copy(update={"numbers": numbers, "seconds": seconds})
