"""Fast-dLLM v2: block diffusion that keeps the token shift of autoregression, learnt from complementary masks."""

from pydantic import Field

from ..attention.patterns import BlockCausal, TwoCopy
from ..errors import SettingError
from ..layouts import Blocks
from ..processes import AbsorbingMask
from ..schedules import Seeded
from ..training.objectives import TwoCopyLoss
from .system import CONFIDENCE, Claim, Parts, System, TextSettings


class FastDLLMSettings(TextSettings):
    """A block is filled sub-block by sub-block; ``steps`` are those of a sub-block."""

    sub_block_size: int | None = Field(None, ge=1, description="tokens denoised together (default: 8, or the block)")
    sub_block_cache: bool = Field(False, description="spare the other sub-blocks of a block: approximate")

    @property
    def sub_block(self) -> int:
        size = self.sub_block_size or (8 if self.block_size % 8 == 0 else self.block_size)
        if self.block_size % size:
            raise SettingError(f"sub_block_size {size} does not divide the block of {self.block_size}; pass a divisor")
        return size


def parts(settings: FastDLLMSettings) -> Parts:
    size, views = settings.sub_block, "complementary"
    per = settings.block_size // size
    process = AbsorbingMask(settings.mask_id, settings.rule(), settings.sampler(), shift=1, weighted=False)
    return Parts(
        layout=Blocks(size, per),
        pattern=BlockCausal(per),
        process=process,
        schedule=Seeded(settings.steps or size, per),
        objective=TwoCopyLoss(process, Blocks(settings.block_size), TwoCopy(), levels="unit", views=views),
        memory="block" if settings.sub_block_cache else "exact",
    )


SYSTEM = System(
    name="fast-dllm-v2",
    title="Fast-dLLM v2",
    paper="arXiv:2509.26328",
    summary="keep the token shift, learn every token once from complementary masks; block cache and sub-block cache",
    family="text",
    settings=FastDLLMSettings(block_size=32),
    parts=parts,
    claim=Claim(
        paper="1B tokens of adaptation match the AR model, up to 2.5x faster; complementary masks and padding help",
        reproduced_if="over 3 seeds within 2 points of AR continued, complementary at least as good as independent "
        "masks, padding to whole blocks better than none, at least 2 tokens per forward at 0.9 with at most 1 point "
        "lost, and the sub-block cache saves a quarter of the token slots at no more than 1 point",
    ),
    format="fast_dllm_v2",
    dial=CONFIDENCE,
)
