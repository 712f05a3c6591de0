"""ACDiT in minutes: full diffusion to frame by frame, clean against noisy context, what kept keys gain.

Networks of one shape learn clips of moving shapes for equal optimizer steps; what they generate is measured without a
network (is it the right shape, in one colour, at one speed?). Then one of them rolls clips of growing length out, with
its keys kept and with everything recomputed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ..clips import ClipData, ClipShape, clips_of, sample_clips, train_clips
from ..evaluation.frechet import frechet
from ..model import Model
from ..systems import Parts
from ..training.objectives import Objective, OneCopyLoss
from ..training.parallel import start
from ..training.settings import TrainSettings
from ..training.told_clean import ToldClean
from ..worlds.shapes import features, valid, verify
from .protocol import Arm, Findings, Say

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Budget", "check"]


@dataclass(frozen=True)
class Budget:
    """What the check may spend; the defaults are the ones whose record is kept."""

    steps: int = 600  # optimizer steps of every arm
    rows: int = 32  # clips per step
    judged: int = 96  # clips generated and judged, per arm
    denoising: int = 20  # steps per unit
    lengths: tuple[int, ...] = (16, 64, 256)  # frames of the rollouts that are timed
    timed: int = 4  # their denoising steps per unit
    together: int = 8  # clips that are rolled out side by side
    learning_rate: float = 1e-2
    average: float = 0.97  # of the weights
    patch: int = 16  # pixels: a token per frame, so a unit of one frame is one token
    shape: ClipShape = field(default_factory=ClipShape)
    data: ClipData = field(
        default_factory=lambda: ClipData(
            samples=2048,
            shapes=("circle", "cross"),
            motions=("east", "west"),
            colours=("red", "blue"),
            speeds=(1.0, 1.0),
        )
    )


ONE, FOUR, SIXTEEN = "1 unit of 16 frames", "4 units of 4 frames", "16 units of 1 frame"
NOISY = "4 units, noisy context"
CONTINUED = "share valid, first unit given"
CACHED, RECOMPUTED, TOGETHER = "rollout, keys kept", "rollout, recomputed", "rollout, all frames together"


def check(say: Say, seed: int = 0, budget: Budget | None = None) -> Findings:
    """Train the four arms at equal steps, judge what they generate, and count what long clips cost."""
    budget = budget or Budget()
    with tempfile.TemporaryDirectory() as folder:
        return _Check(say, seed, budget, Path(folder)).run()


class _Check:
    def __init__(self, say: Say, seed: int, budget: Budget, folder: Path) -> None:
        self.say, self.seed, self.budget, self.folder = say, seed, budget, folder

    def run(self) -> Findings:
        b = self.budget
        truth, labels = clips_of(b.data, "heldout", 4 * b.judged)
        self.truth, self.labels = truth.numpy(), labels[: b.judged].tolist()
        one_copy = _one_copy  # of a single unit nothing is clean context: one copy gives the same loss at half the work
        one, arm_one = self.arm(ONE, 16, "full diffusion", one_copy)
        four, arm_four = self.arm(FOUR, 4, "clean context")
        _, arm_sixteen = self.arm(SIXTEEN, 1, "clean context, frame after frame")
        _, arm_noisy = self.arm(NOISY, 4, "diffusion forcing: one copy, a level per unit", one_copy, told=True)
        arms = {ONE: arm_one, FOUR: arm_four, SIXTEEN: arm_sixteen, NOISY: arm_noisy}
        self.say(f"rollouts of {', '.join(map(str, b.lengths))} frames")
        arms[CACHED] = self.rollouts(four, "exact", "4 units of 4 frames, extended")
        arms[RECOMPUTED] = self.rollouts(four, "none", "the same frames, every step over the whole past")
        arms[TOGETHER] = self.rollouts(one, "exact", "every frame at every step, no past", together=True)
        return self.findings(arms, one)

    def arm(
        self,
        name: str,
        frames_per_unit: int,
        about: str,
        objective: Callable[[Parts], Objective] | None = None,
        told: bool = False,
    ) -> tuple[Model, Arm]:
        b = self.budget
        self.say(f"{name}: {b.steps} steps")
        training = TrainSettings(
            out=self.folder / name,
            steps=b.steps,
            batch_rows=b.rows,
            learning_rate=b.learning_rate,
            warmup=min(20, b.steps // 2),
            weight_decay=0.01,
            optimizer="muon",
            ema=b.average,
            seed=self.seed,
            evaluate_every=b.steps,
            evaluate_rows=16,
            checkpoint_every=b.steps,
        )
        took: dict[str, Any] = {}
        settings: dict[str, Any] = {"frames_per_unit": frames_per_unit, "steps": b.denoising, "predicts": "clean"}
        model = train_clips(
            training,
            b.data,
            b.shape,
            objective=objective,
            on_log=took.update,
            drop_label=0.0,
            patch=b.patch,
            **settings,
        )
        sampled = model
        if told:
            sampled = replace(model, checkpoint=replace(model.checkpoint, network=cast(Any, ToldClean(model.network))))
        numbers = self.judge(sample_clips(sampled, self.labels, seed=self.seed).numpy())
        if frames_per_unit < self.truth.shape[1]:
            begun = torch.from_numpy(self.truth[: b.judged, :frames_per_unit])
            continued = sample_clips(sampled, self.labels, seed=self.seed, beginning=begun).numpy()
            numbers[CONTINUED] = self.judge(continued)["share valid"]
        tokens = b.steps * b.rows * model.parts.layout.length  # type: ignore[attr-defined]
        return model, Arm(numbers=numbers, steps=b.steps, tokens=tokens, seconds=round(took["seconds"], 1), about=about)

    def judge(self, clips: np.ndarray) -> dict[str, float]:
        found = [verify(clip) for clip in clips]
        good = sum(valid(attributes, label) for attributes, label in zip(found, self.labels, strict=True))
        distance = frechet(features(clips), features(self.truth))
        return {"share valid": good / len(found), "Fréchet distance": round(distance, 3)}

    def rollouts(self, model: Model, memory: str, about: str, together: bool = False) -> Arm:
        """Time and work per frame of clips of every length."""
        numbers = {}
        labels = [self.labels[0]] * self.budget.together
        for frames in self.budget.lengths:
            changes = {"frames": frames, "frames_per_unit": frames} if together else {}
            counter = _Counter(model.network)
            counted = replace(model, checkpoint=replace(model.checkpoint, network=cast(Any, counter)))
            began = time.monotonic()
            sample_clips(counted.with_(steps=self.budget.timed, **changes), labels, frames, memory=memory)
            took = time.monotonic() - began
            numbers[f"{frames} frames: seconds per frame"] = round(took / frames / len(labels), 6)
            numbers[f"{frames} frames: million multiply-adds per frame"] = round(
                counter.work / frames / len(labels) / 1e6, 4
            )
        return Arm(numbers=numbers, about=about)

    def findings(self, arms: dict[str, Arm], model: Model) -> Findings:
        b = self.budget

        def good(name: str) -> float:
            return arms[name].numbers["share valid"]

        def given(name: str) -> float:
            return arms[name].numbers[CONTINUED]

        def seconds(name: str, frames: int) -> float:
            return arms[name].numbers[f"{frames} frames: seconds per frame"]

        longest = b.lengths[-1]  # cheaper from some length on: at least there
        ratio = seconds(RECOMPUTED, longest) / seconds(CACHED, longest)
        beside = seconds(TOGETHER, longest) / seconds(CACHED, longest)
        distances = ", ".join(f"{arms[n].numbers['Fréchet distance']:.2f}" for n in (ONE, FOUR, SIXTEEN, NOISY))
        why = (
            f"Of {b.judged} clips a verifier accepts {good(ONE):.0%} with 1 unit, {good(FOUR):.0%} with 4, "
            f"{good(SIXTEEN):.0%} with 16 and {good(NOISY):.0%} with 4 and noisy context (Fréchet distances "
            f"{distances}); behind a true first unit, {given(FOUR):.0%} of 4, {given(NOISY):.0%} with noisy context. "
            f"At {longest} frames recomputing the past takes {ratio:.1f} times as long as keeping its keys, denoising "
            f"all frames together {beside:.1f} times. One seed, {b.steps} steps, an easy world."
        )
        d = b.data
        size = sum(p.numel() for p in model.network.parameters())
        precision = TrainSettings(out=self.folder).autocast(start().device)
        return Findings(
            arms=arms,
            baseline=ONE,
            conditions={
                "4 units >= 1 unit - 5 points": good(FOUR) >= good(ONE) - 0.05,
                "clean context better than noisy context": good(FOUR) > good(NOISY),
                "keys kept cheaper than recomputed from some length on": ratio > 1,
            },
            why=why,
            setting=f"moving shapes, 16 frames of 16x16x3, made easy for all arms alike: {len(d.shapes)} shapes, "
            f"{len(d.motions)} motions, {len(d.colours)} colours, speed {d.speeds[0]:g} to {d.speeds[1]:g} pixels per "
            f"frame, patch {b.patch}; {b.shape.num_layers} layers, width {b.shape.hidden_size}, {size / 1e6:.2f} M "
            f"parameters; flow matching that predicts the clean clip, {b.denoising} steps of DPM-Solver++(2M) a unit, "
            f"no guidance; {b.rows} clips a step, Muon {b.learning_rate}, averaged weights, {precision}; rollouts of "
            f"{b.together} clips side by side with {b.timed} steps per unit",
            seeds=[self.seed],
        )


def _one_copy(parts: Parts) -> Objective:
    return OneCopyLoss(parts.process, parts.layout)


class _Counter(nn.Module):
    """A network that counts its multiply-adds: weights per token, and keys per query in every layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.config, self.work = network, network.config, 0
        config: Any = network.config
        self.weights = sum(p.numel() for n, p in network.named_parameters() if "blocks." in n and p.dim() == 2)
        self.per_pair = 2 * config.num_layers * config.num_heads * config.head_dim

    def forward(self, content: Tensor, positions: Tensor, mask: Any, memory: Any, *rest: Any, **told: Any) -> Tensor:
        rows, n = content.shape[:2]
        keys = getattr(memory, "reads", 0) or n
        self.work += rows * n * (self.weights + keys * self.per_pair)
        result: Tensor = self.network(content, positions, mask, memory, *rest, **told)
        return result

    def head(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.network.head(hidden)  # type: ignore[operator]
        return result
