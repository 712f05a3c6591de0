"""EOSER and ASS: LLaDA's decoding with end tokens trusted late, in steps that double; reinforced by CJ-GRPO."""

from dataclasses import replace

from pydantic import Field

from ..errors import SettingError
from ..paces import Doubling, Even
from ..reveal import Damped, Doubled, Evenly, Reveal
from ..schedules import Successive
from . import llada
from .llada import LLaDASettings
from .system import Claim, Parts, System, rules_named


class EOSERSettings(LLaDASettings):
    """The answer is ``block_size`` tokens long; ``steps`` are those of all of it, its ``blocks`` together."""

    reveal: str | None = Field(
        "dynamic", description="rule that says which candidates are fixed in a step", json_schema_extra=rules_named
    )
    blocks: int = Field(1, ge=1, description="blocks of the answer, filled from left to right; 1: full diffusion")
    ass: bool = Field(True, description="ascending step size: 1, 2, 4, ... tokens a step, log2(block_size) steps")
    eoser: bool = Field(True, description="reject end-of-sequence tokens early: their confidence is damped")
    least: float | None = Field(None, ge=0, description="damping of the first step (default: 0.4; 0.01 with ass)")
    most: float = Field(1.0, ge=0, description="damping of the last step")
    eos_ids: tuple[int, ...] = Field((), description="ids of the end-of-sequence tokens; from the checkpoint")

    def schedule(self) -> Successive:
        """Growing blocks, or equal ones."""
        if not self.ass:
            return Successive.even(self.block_size, self.blocks, self.steps or self.block_size)
        schedule = Successive.growing(self.block_size, self.blocks)
        if self.steps not in (None, sum(schedule.steps)):
            raise SettingError(
                f"steps is {self.steps}, but {self.block_size} tokens in doubling steps take {sum(schedule.steps)}; "
                "leave it out, or set ass to false"
            )
        return schedule

    def rule(self) -> Reveal:
        """The reveal rule, shown the damped confidence of end tokens."""
        if self.reveal == "ancestral" and self.blocks > 1:
            raise SettingError("ancestral goes by a block's own steps, here they run on through all; set blocks to 1")
        if not self.eoser:
            return super().rule()
        usual, share = (0.01, Doubled()) if self.ass else (0.4, Evenly())
        return Damped(super().rule(), self.eos_ids, usual if self.least is None else self.least, self.most, share)


def parts(settings: EOSERSettings) -> Parts:
    pace = Doubling() if settings.ass else Even()
    return replace(llada.parts(settings, pace=pace), schedule=settings.schedule())


SYSTEM = System(
    name="eoser-ass-cjgrpo",
    title="EOSER, ASS and CJ-GRPO",
    paper="arXiv:2509.23924",
    summary="LLaDA with end tokens damped early and steps that double; reinforced on its recorded denoising steps",
    family="text",
    settings=EOSERSettings(block_size=32, threshold=1.0),
    parts=parts,
    claim=Claim(
        paper="full diffusion decoding without the end-of-sequence trap is competitive in fewer steps; reinforcement "
        "on the recorded denoising trajectory beats that on a one-step approximation",
        reproduced_if="damping takes the share of answers that begin with an end token from over 0.8 to under 0.2 and "
        "raises the accuracy at 2 tokens a step over full diffusion; CJ-GRPO ends with the best mean reward, against "
        "one-step and diffu-GRPO from the same net with the same rollout, at equal forwards",
    ),
    written_as=("llada",),
    block_sizes="free",
)
