"""TiDAR in minutes: does it keep the text of autoregression, and how many tokens does a forward then verify?

From one autoregressive network, at equal steps: the same continued, TiDAR, TiDAR that learns from masks at random
ratios instead of full ones, and block diffusion with blocks as long as TiDAR's drafts.
"""

from __future__ import annotations

from dataclasses import replace

from ..masking import Independent
from ..training.objectives import TwoCopyLoss
from .protocol import Arm, Findings, Say
from .workbench import Bench, Budget

__all__ = ["BUDGET", "check"]

BUDGET = Budget(further=120, block_size=8)
THRESHOLDS = (0.9, 0.8, 0.6, 0.3)


def check(say: Say, seed: int = 0, budget: Budget = BUDGET) -> Findings:
    """Train the arms, answer the same held-out additions with each, and compare."""
    return _Check.check(say, seed, budget)


class _Check(Bench):
    def run(self) -> Findings:
        b, tidar, sdar = self.budget, self.parts("tidar"), self.parts("sdar")
        assert isinstance(tidar.objective, TwoCopyLoss)
        base, cost = self.begin()
        arms = {"AR continued": self.continued(base, cost)}

        network, spent = self.adapted(base, cost, tidar.objective, "TiDAR")
        loss = self.next_token_loss(network)
        for trust in (1.0, 0.0):
            decoding, about = self.parts("tidar", trust=trust), "drafts verified" if trust else "drafts trusted"
            arms[f"TiDAR, trust {trust:.0f}"] = self.arm(
                network, decoding, spent, about, more={"next-token loss": loss}
            )

        random = replace(tidar.objective, masking=Independent())
        network, spent = self.adapted(base, cost, random, "TiDAR that learns from random masks")
        arms["random masks, trust 1"] = self.arm(network, tidar, spent, "masks at random ratios in training")

        network, spent = self.adapted(base, cost, sdar.objective, f"block diffusion in blocks of {b.block_size}")
        for threshold in THRESHOLDS:
            decoding = self.parts("sdar", threshold=threshold)
            arms[f"SDAR, threshold {threshold}"] = self.arm(network, decoding, spent, "sure tokens together")
        return self.findings(arms)

    def findings(self, arms: dict[str, Arm]) -> Findings:
        def of(name: str, number: str = "exact match") -> float:
            return arms[name].numbers[number]

        continued, verified, trusted = of("AR continued"), of("TiDAR, trust 1"), of("TiDAR, trust 0")
        speed, random = of("TiDAR, trust 1", "tokens per forward"), of("random masks, trust 1", "tokens per forward")
        blocks = [arm.numbers for name, arm in arms.items() if name.startswith("SDAR")]
        as_fast = [n for n in blocks if n["tokens per forward"] >= speed] or blocks[-1:]
        rival = max(as_fast, key=lambda n: n["exact match"])
        slots = of("TiDAR, trust 1", "token slots per token")
        error = 2 * (0.25 / self.budget.problems) ** 0.5
        why = (
            f"With trust 1 TiDAR answers {verified:.1%} of {self.budget.problems} unseen additions (AR continued "
            f"{continued:.1%}) at {speed:.2f} tokens per forward, and spends {slots:.0f} token slots on a token; with "
            f"trust 0 {trusted:.1%}; learnt from random masks it makes {random:.2f} per forward. Block diffusion "
            f"answers {rival['exact match']:.1%} at {rival['tokens per forward']:.2f}. One seed; a share is sure to "
            f"about ±{error:.0%} at worst."
        )
        return Findings(
            arms=arms,
            baseline="AR continued",
            conditions={
                "trust 1 >= AR continued - 2 points": verified >= continued - 0.02,
                "at least 2.5 tokens per forward": speed >= 2.5,
                "block diffusion as fast is at least 5 points worse": rival["exact match"] <= verified - 0.05,
                "full masks at least as fast as random ones": speed >= random,
                "trust 0 within 2 points of trust 1": abs(trusted - verified) <= 0.02,
            },
            why=why,
            setting=self.setting(),
            seeds=[self.seed],
        )
