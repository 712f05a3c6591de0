"""Dream: LLaDA's way with the weights of an autoregressive model, and its token shift."""

from pydantic import Field

from ..attention.patterns import Bidirectional
from ..layouts import Blocks
from ..processes import AbsorbingMask
from ..schedules import BehindPrompt
from ..training.objectives import OneCopyLoss
from .system import CONFIDENCE, Parts, System, TextSettings


class DreamSettings(TextSettings):
    """``block_size`` tokens of the answer are denoised together, counted from the end of the prompt."""

    cache: str = Field(
        "none",
        pattern="^(none|prefix|dual)$",
        description="keys that may be stale (Fast-dLLM): none, prefix (before the block), dual (all but the block)",
    )


def parts(settings: DreamSettings) -> Parts:
    process = AbsorbingMask(settings.mask_id, settings.rule(), settings.sampler(), shift=1)
    layout = Blocks(1)
    return Parts(
        layout=layout,
        pattern=Bidirectional(),
        process=process,
        schedule=BehindPrompt(settings.block_size, settings.steps or settings.block_size),
        objective=OneCopyLoss(process, layout, Bidirectional(), levels="document"),
        memory={"none": "none", "prefix": "prefix", "dual": "block"}[settings.cache],
    )


SYSTEM = System(
    name="dream",
    title="Dream",
    paper="arXiv:2508.15487",
    summary="masked diffusion with full attention from AR weights, the token shift kept",
    family="text",
    settings=DreamSettings(block_size=32, threshold=1.0),
    parts=parts,
    format="dream",
    dial=CONFIDENCE,
)
