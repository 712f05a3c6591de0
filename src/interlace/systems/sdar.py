"""SDAR: a trained autoregressive model, adapted briefly into a masked block-diffusion model."""

from ..attention.patterns import BlockCausal, TwoCopy
from ..layouts import Blocks
from ..masking import Independent, Redrawn
from ..processes import AbsorbingMask
from ..schedules import BlockByBlock
from ..training.objectives import TwoCopyLoss
from .system import CONFIDENCE, Claim, Parts, System, TextSettings


def parts(settings: TextSettings) -> Parts:
    layout = Blocks(settings.block_size)
    process = AbsorbingMask(settings.mask_id, settings.rule(), settings.sampler())
    return Parts(
        layout=layout,
        pattern=BlockCausal(),
        process=process,
        schedule=BlockByBlock(settings.steps or settings.block_size),
        objective=TwoCopyLoss(
            process, layout, TwoCopy(BlockCausal()), levels="document", masking=Redrawn(Independent())
        ),
    )


SYSTEM = System(
    name="sdar",
    title="SDAR",
    paper="arXiv:2510.06303",
    summary="adapt a trained AR model into a masked block-diffusion model; exact cache, confident tokens in parallel",
    family="text",
    settings=TextSettings(block_size=4),
    parts=parts,
    claim=Claim(
        paper="keeps the accuracy of the AR model after a brief adaptation, at more than 2 tokens per forward",
        reproduced_if="adapted >= AR continued - 2 points, adapted > from scratch + 3 points, and at threshold 0.9 at "
        "least 1.5 tokens per forward with at most 1 point lost",
    ),
    format="sdar",
    dial=CONFIDENCE,
)
