"""WeDLM in minutes: does a window that streams need fewer forwards than blocks, on the same weights?

From one autoregressive network, at equal steps: the same continued, WeDLM, and block diffusion with bidirectional
blocks. WeDLM is decoded through a window, and block by block with the same rule.
"""

from __future__ import annotations

from dataclasses import replace

from ..generation import collect, generate
from ..layouts import Blocks
from ..nn import Transformer
from ..schedules import BlockByBlock
from ..systems import Parts
from ..worlds.additions import Additions
from ..worlds.tokenizer import encode
from .protocol import Arm, Findings, Say
from .workbench import Bench, Budget

__all__ = ["BUDGET", "check"]

BUDGET = Budget(further=140, block_size=16)
WINDOW = 8
BOUNDS = (0.2, 0.4, 0.8)


def check(say: Say, seed: int = 0, budget: Budget = BUDGET) -> Findings:
    """Train the arms, answer the same held-out additions with each, and compare."""
    return _Check.check(say, seed, budget)


class _Check(Bench):
    def run(self) -> Findings:
        b = self.budget
        ar, sdar = self.parts("ar"), self.parts("sdar")
        base, cost = self.begin()
        arms = {"AR continued": self.continued(base, cost)}

        network, spent = self.adapted(base, cost, self.parts("wedlm").objective, "WeDLM")
        loss = self.next_token_loss(network)
        plain = self.arm(
            network, ar, spent, "WeDLM's weights, one token after the other", more={"next-token loss": loss}
        )
        arms["WeDLM as AR"] = plain
        for bound in BOUNDS:
            streaming = self.parts("wedlm", window=WINDOW, entropy=bound)
            blocks = replace(streaming, layout=Blocks(WINDOW), schedule=BlockByBlock(WINDOW))
            counting = {"tokens per forward, counting": self.counting(network, streaming)}
            arms[f"streaming, entropy {bound}"] = self.arm(network, streaming, spent, "a window of 8", more=counting)
            arms[f"blocks, entropy {bound}"] = self.arm(network, blocks, spent, "the same weights, blocks of 8")

        network, spent = self.adapted(base, cost, sdar.objective, f"block diffusion in blocks of {b.block_size}")
        arms["SDAR, threshold 0.9"] = self.arm(network, sdar, spent, "bidirectional blocks, no next-token loss")
        return self.findings(arms)

    def counting(self, network: Transformer, parts: Parts) -> float:
        """Tokens per forward of lines that count upwards."""
        world = Additions(templates=1.0)
        lines = [line for line in (world.line(i, "heldout") for i in range(200)) if line.startswith("count")][:32]
        prompts = [encode(self.tokenizer, line.partition("=")[0] + "=") for line in lines]
        longest = len(lines[0].partition("=")[2]) + 1
        events = generate(network, prompts, longest, stop=(self.end,), **parts.sampling)
        found = collect(events, prompts, longest, (self.end,))
        return sum(len(row.content) for row in found) / max(1, sum(row.forwards for row in found))

    def findings(self, arms: dict[str, Arm]) -> Findings:
        def of(name: str, number: str = "exact match") -> float:
            return arms[name].numbers[number]

        stream, block = "streaming, entropy 0.4", "blocks, entropy 0.4"
        gain = of(stream, "tokens per forward") / of(block, "tokens per forward")
        kept = [1 / of(name, "token slots per token") for name in (stream, block)]
        loss, plain = of("WeDLM as AR", "next-token loss"), of("AR continued", "next-token loss")
        counting = of(stream, "tokens per forward, counting")
        error = 2 * (0.25 / self.budget.problems) ** 0.5
        why = (
            f"At entropy 0.4 the window answers {of(stream):.1%} of {self.budget.problems} unseen additions at "
            f"{of(stream, 'tokens per forward'):.2f} tokens per forward, blocks {of(block):.1%} at "
            f"{of(block, 'tokens per forward'):.2f}; of the token slots {kept[0]:.0%} and {kept[1]:.0%} are kept. "
            f"Counting runs at {counting:.2f}. The next-token loss is {loss:.4f}, that of AR continued {plain:.4f}. "
            f"One seed; a share is sure to about ±{error:.0%} at worst."
        )
        return Findings(
            arms=arms,
            baseline="AR continued",
            conditions={
                "streaming needs at least 1.2x fewer forwards than blocks": gain >= 1.2,
                "at most 1 point lost by it": of(stream) >= of(block) - 0.01,
                "more of its token slots are kept": kept[0] > kept[1],
                "counting is faster than adding": counting > of(stream, "tokens per forward"),
                "next-token loss within 3% of AR continued": loss <= 1.03 * plain,
            },
            why=why,
            setting=self.setting(),
            seeds=[self.seed],
        )
