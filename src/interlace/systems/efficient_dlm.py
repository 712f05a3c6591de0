"""Efficient-DLM: the recipe that a study of AR-to-diffusion conversion ends with; later tokens are masked more."""

from pydantic import Field

from ..attention.patterns import BlockCausal, TwoCopy
from ..layouts import Blocks
from ..masking import Counted
from ..processes import AbsorbingMask
from ..schedules import BlockByBlock
from ..training.objectives import TwoCopyLoss
from .system import CONFIDENCE, Claim, Parts, System, TextSettings


class EfficientDLMSettings(TextSettings):
    """``half_life``: over which share of a block the weight of being masked doubles, when few tokens are."""

    half_life: float = Field(
        0.1, gt=0, description="share of a block over which the masking weight doubles; inf: uniform"
    )


def parts(settings: EfficientDLMSettings) -> Parts:
    layout = Blocks(settings.block_size)
    process = AbsorbingMask(settings.mask_id, settings.rule(), settings.sampler(), eps=0.0)
    masking = Counted.half_life(settings.half_life, settings.block_size)
    return Parts(
        layout=layout,
        pattern=BlockCausal(),
        process=process,
        schedule=BlockByBlock(settings.steps or settings.block_size),
        objective=TwoCopyLoss(process, layout, TwoCopy(), levels="unit", masking=masking),
    )


SYSTEM = System(
    name="efficient-dlm",
    title="Efficient-DLM",
    paper="arXiv:2512.14067",
    summary="block-wise attention with clean context, no token shift, masks that favour the end of a block",
    family="text",
    settings=EfficientDLMSettings(block_size=16),
    parts=parts,
    claim=Claim(
        paper="clean context beats noisy context beats full attention; position-dependent masks help parallel decoding",
        reproduced_if="accuracy rises from bidirectional over noisy to clean context, the positional masks are at "
        "least as good as uniform ones at 2 tokens per forward, and right-to-left masks are clearly worst",
    ),
    written_as=("sdar",),
    dial=CONFIDENCE,
)
