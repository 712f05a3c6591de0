"""Efficient-DLM in minutes: what the attention, the context and the place of the masks are worth in an adaptation.

From one autoregressive network, at equal steps: full attention (with the token shift), block-wise attention over noisy
context, over clean context with and without the shift, and the last with masks that favour the end of a block, or its
begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..attention.patterns import Bidirectional, BlockCausal
from ..masking import Counted
from ..nn import Transformer
from ..processes import AbsorbingMask
from ..training.objectives import DenoisingLoss, OneCopyLoss
from .protocol import Arm, Findings, Say
from .workbench import Bench, Budget

__all__ = ["BUDGET", "check"]

BUDGET = Budget(further=160, block_size=8)
THRESHOLDS = (1.0, 0.9, 0.7, 0.5, 0.3)
LEFTWARDS = -100.0  # a tilt by which always the first tokens of a block are masked


def check(say: Say, seed: int = 0, budget: Budget = BUDGET) -> Findings:
    """Train the arms, answer the same held-out additions with each, and compare."""
    return _Check.check(say, seed, budget)


class _Check(Bench):
    def run(self) -> Findings:
        ar, recipe = self.parts("ar"), self.parts("efficient-dlm")
        objective, process = recipe.objective, recipe.process
        assert isinstance(objective, DenoisingLoss) and isinstance(process, AbsorbingMask)
        uniform, shifted = replace(objective, masking=Counted()), replace(process, shift=1)
        one_copy = {"layout": objective.layout, "masking": Counted()}
        trained: dict[str, DenoisingLoss] = {
            "full attention": OneCopyLoss(shifted, pattern=Bidirectional(), levels="document", **one_copy),  # type: ignore[arg-type]
            "noisy context": OneCopyLoss(process, pattern=BlockCausal(), levels="unit", **one_copy),  # type: ignore[arg-type]
            "clean context, shift": replace(uniform, process=shifted),
            "clean context": uniform,
            "end of blocks": objective,
            "begin of blocks": replace(objective, masking=Counted(LEFTWARDS)),
        }
        base, cost = self.begin()
        arms = {"AR": self.arm(base, ar, cost, "what all start from")}
        for name, loss in trained.items():
            network, spent = self.adapted(base, cost, loss, name)
            moved = {"relative weight change": _change(network, base)}
            for threshold in THRESHOLDS:
                settled = self.parts("efficient-dlm", threshold=threshold)
                assert isinstance(settled.process, AbsorbingMask)
                decoding = replace(settled, process=replace(settled.process, shift=loss.process.shift))
                if name == "full attention":
                    decoding = replace(decoding, pattern=Bidirectional())
                arms[f"{name}, {threshold}"] = self.arm(network, decoding, spent, f"threshold {threshold}", more=moved)
        return self.findings(arms, list(trained))

    def findings(self, arms: dict[str, Arm], names: Sequence[str]) -> Findings:
        def best(name: str, least: float = 0.0) -> float:
            """The best share of right answers at that speed or a higher one."""
            points = [arms[f"{name}, {threshold}"].numbers for threshold in THRESHOLDS]
            return max((p["exact match"] for p in points if p["tokens per forward"] >= least), default=0.0)

        slow, quick = ({name: best(name, least) for name in names} for least in (0.0, 2.0))
        moved = {name: arms[f"{name}, 1.0"].numbers["relative weight change"] for name in names}
        error = 2 * (0.25 / self.budget.problems) ** 0.5
        said = ", ".join(f"{name} {slow[name]:.1%} and {quick[name]:.1%}" for name in names)
        why = (
            f"Right answers to {self.budget.problems} unseen additions at any speed, and at 2 tokens per forward or "
            f"more: {said}. The weights moved by {moved['full attention']:.1%} under full attention, by "
            f"{moved['clean context']:.1%} under blocks of clean context. One seed where the paper's claim asks for "
            f"several; a share is sure to about ±{error:.0%} at worst."
        )
        return Findings(
            arms=arms,
            baseline="AR",
            conditions={
                "full attention < noisy context": slow["full attention"] < slow["noisy context"],
                "noisy context < clean context": slow["noisy context"] < slow["clean context"],
                "masks at the end >= uniform at 2 tokens per forward": quick["end of blocks"] >= quick["clean context"],
                "masks at the begin are worst": slow["begin of blocks"]
                < min(slow["end of blocks"], slow["clean context"]),
                "full attention moves the weights most": moved["full attention"] > moved["clean context"],
            },
            why=why,
            setting=self.setting(),
            seeds=[self.seed],
        )


def _change(network: Transformer, base: Transformer) -> float:
    """|w - w0| / |w0| over all matrices of the blocks."""
    pairs = [
        (w, w0) for w, w0 in zip(network.blocks.parameters(), base.blocks.parameters(), strict=True) if w.dim() > 1
    ]
    moved, was = (
        sum(float(x.detach().square().sum()) for x in some)
        for some in ([w - w0 for w, w0 in pairs], [w0 for _, w0 in pairs])
    )
    return (moved / was) ** 0.5
