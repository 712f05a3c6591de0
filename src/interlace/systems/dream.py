"""Dream: LLaDA's way with the weights of an autoregressive model: its token shift, and quotas of its own."""

from pydantic import Field

from ..paces import Proportional
from ..reveal import FirstAlone, Reveal
from ..sampling import Sampler
from . import llada
from .system import CONFIDENCE, Parts, System


class DreamSettings(llada.LLaDASettings):
    """The times of a block's steps say how many tokens a step fixes, or with which chance each (``ancestral``)."""

    eps: float = Field(1e-3, ge=0, lt=1, description="time at which a block ends, on an even grid from 1")

    def sampler(self) -> Sampler:
        """A candidate is trusted as what it is drawn from says: after the temperature and the cuts."""
        return Sampler(self.temperature, self.top_k, self.top_p, cut=True)

    def rule(self) -> Reveal:
        """With a cache a block begins with its first token, which is predicted outside of it."""
        return super().rule() if self.cache == "none" else FirstAlone(super().rule())


def parts(settings: DreamSettings) -> Parts:
    return llada.parts(settings, shift=1, pace=Proportional(settings.eps))


SYSTEM = System(
    name="dream",
    title="Dream",
    paper="arXiv:2508.15487",
    summary="masked diffusion with full attention from AR weights, the token shift kept",
    family="text",
    settings=DreamSettings(block_size=32, threshold=1.0),
    parts=parts,
    format="dream",
    block_sizes="free",
    dial=CONFIDENCE,
)
