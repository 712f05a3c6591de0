"""TiDAR: one forward verifies a draft autoregressively and drafts anew by diffusion, for whatever is accepted."""

from pydantic import Field

from ..attention.patterns import Branching, Causal, TwoCopy
from ..layouts import Blocks
from ..lookahead import Branches
from ..masking import Everything
from ..processes import AbsorbingMask, Speculative
from ..schedules import Streaming
from ..training.objectives import TwoCopyLoss
from .system import Claim, Parts, System, TextSettings


class TiDARSettings(TextSettings):
    """``block_size`` is K, the length of a draft."""

    trust: float = Field(1.0, ge=0, le=1, description="1: tokens are those of autoregression; 0: those of diffusion")
    next_token: float = Field(1.0, gt=0, description="weight of the next-token loss beside the diffusion loss")


def parts(settings: TiDARSettings) -> Parts:
    size = settings.block_size
    process = Speculative(settings.mask_id, size, settings.sampler(), settings.trust)
    return Parts(
        layout=Blocks(1),
        pattern=Branching(),
        process=process,
        schedule=Streaming(2 * size - 1),
        objective=TwoCopyLoss(
            AbsorbingMask(settings.mask_id, eps=0.0),
            Blocks(size),
            TwoCopy(Causal()),
            masking=Everything(),
            next_token=settings.next_token,
            anywhere=True,  # a branch begins behind any token
        ),
        lookahead=Branches(size),
    )


SYSTEM = System(
    name="tidar",
    title="TiDAR",
    paper="arXiv:2511.08923",
    summary="one forward verifies a draft autoregressively and drafts the next by diffusion: the text of AR, faster",
    family="text",
    settings=TiDARSettings(block_size=8),
    parts=parts,
    claim=Claim(
        paper="closes the quality gap to AR at over 7 tokens per forward; learning full masks beats random masks",
        reproduced_if="with trust 1 within 2 points of AR continued at 2.5 tokens per forward or more, block diffusion "
        "at equal speed at least 5 points worse, full masks at least as fast as random ones, trust 0 within 2 points",
    ),
    written_as=("qwen3", "qwen2", "llama", "qwen3_moe"),
)
