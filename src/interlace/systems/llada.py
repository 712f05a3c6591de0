"""LLaDA: every token sees every token; masks of a whole answer, or of its blocks, are filled by confidence."""

from pydantic import Field

from ..attention.patterns import Bidirectional
from ..errors import SettingError
from ..guidance import UnsupervisedGuidance
from ..layouts import Blocks
from ..paces import Even, Pace
from ..processes import AbsorbingMask
from ..reveal import Reveal
from ..sampling import Sampler
from ..schedules import BehindPrompt
from ..training.objectives import OneCopyLoss
from .system import CONFIDENCE, Parts, System, TextSettings, rules_named

EVEN = Even()


class LLaDASettings(TextSettings):
    """``block_size`` tokens of the answer are denoised together, counted from the end of the prompt."""

    reveal: str | None = Field(  # type: ignore[assignment]
        None,
        description="rule that says which candidates are fixed in a step (default: threshold below 1, or static)",
        json_schema_extra=rules_named,
    )
    cache: str = Field(
        "none",
        pattern="^(none|prefix|dual)$",
        description="keys that may be stale (Fast-dLLM): none, prefix (before the block), dual (all but the block)",
    )
    guidance: float = Field(
        1.0, allow_inf_nan=False, description="how much the prompt counts; other than 1, at two forwards a step"
    )

    def sampler(self) -> Sampler:
        """A candidate is drawn at the temperature, and trusted as if there were none."""
        return Sampler(self.temperature, self.top_k, self.top_p, raw=True)

    def rule(self) -> Reveal:
        """Where none is named, that of Fast-dLLM where a threshold is given, and else LLaDA's."""
        usual = "threshold" if self.threshold < 1 else "static"
        return TextSettings.rule(self if self.reveal else self.but(reveal=usual))

    def guide(self) -> UnsupervisedGuidance | None:
        """None where the prompt counts as it is: then a step is one forward."""
        if self.guidance != 1 and self.cache != "none":
            raise SettingError(
                f"guidance is {self.guidance:g} with cache {self.cache!r}, but it masks the prompt in every second "
                "forward, so no key can be kept; leave one of them out"
            )
        return None if self.guidance == 1 else UnsupervisedGuidance(self.guidance)


def parts(settings: LLaDASettings, shift: int = 0, pace: Pace = EVEN) -> Parts:
    process = AbsorbingMask(settings.mask_id, settings.rule(), settings.sampler(), shift=shift, pace=pace)
    layout = Blocks(1)
    return Parts(
        layout=layout,
        pattern=Bidirectional(),
        process=process,
        schedule=BehindPrompt(settings.block_size, settings.steps or settings.block_size),
        objective=OneCopyLoss(process, layout, Bidirectional(), levels="document"),
        memory={"none": "none", "prefix": "prefix", "dual": "block"}[settings.cache],
        guide=settings.guide(),
    )


SYSTEM = System(
    name="llada",
    title="LLaDA",
    paper="arXiv:2502.09992",
    summary="masked diffusion with full attention; the answer whole, or in blocks behind the prompt",
    family="text",
    settings=LLaDASettings(block_size=32, threshold=1.0),
    parts=parts,
    format="llada",
    block_sizes="free",
    dial=CONFIDENCE,
)
