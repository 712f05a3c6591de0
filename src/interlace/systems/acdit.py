"""ACDiT: autoregression over blocks of continuous latents, diffusion inside each block."""

from pydantic import Field

from ..attention.patterns import BlockCausal, TwoCopy
from ..errors import SettingError
from ..layouts import Frames, Layout, Squares
from ..processes import FlowMatching, Gaussian
from ..schedules import BlockByBlock
from ..solvers import DDIM, DPMSolver2M, Solver
from ..training.objectives import TwoCopyLoss
from .system import Claim, Parts, Settings, System


class ACDiTSettings(Settings):
    """Clips of ``frames`` frames of ``height`` x ``width`` tokens; a unit is ``frames_per_unit`` frames.

    With ``side``, single images, cut into squares of ``side`` x ``side`` tokens.
    """

    frames: int = Field(16, ge=1, description="frames of a clip")
    height: int = Field(4, ge=1, description="tokens of a frame from top to bottom")
    width: int = Field(4, ge=1, description="tokens of a frame from left to right")
    frames_per_unit: int = Field(4, ge=1, description="frames denoised together")
    side: int = Field(0, ge=0, description="tokens along the side of a square of an image; 0: whole frames")
    patch: int = Field(4, ge=1, description="pixels along the side of a token")
    mean: float = Field(0.0, description="of the pixels: taken off before the network, put back behind it")
    deviation: float = Field(1.0, gt=0, description="of the pixels, which the network sees divided by it")
    steps: int = Field(25, ge=1, description="denoising steps per unit")
    noise: str = Field("flow", pattern="^(flow|gaussian)$", description="path: flow (straight) or gaussian (DDPM)")
    predicts: str = Field("velocity", pattern="^(velocity|clean)$", description="what the network gives (flow)")
    solver: str = Field("dpm", pattern="^(ddim|dpm)$", description="ddim (order 1) or dpm (order 2, multistep)")
    drop_label: float = Field(0.1, ge=0, le=1, description="chance of the null label in training")


def parts(settings: ACDiTSettings) -> Parts:
    layout: Layout
    if settings.side:
        layout = Squares(settings.height, settings.width, settings.side, settings.patch)
    else:
        layout = Frames(settings.frames, settings.height, settings.width, settings.frames_per_unit, settings.patch)
    solvers: dict[str, Solver] = {"ddim": DDIM(), "dpm": DPMSolver2M()}
    solver = solvers[settings.solver]
    if settings.noise == "gaussian" and settings.predicts != "velocity":
        raise SettingError("predicts is clean, but the gaussian path is learnt by its noise; pass noise=flow")
    process = Gaussian(solver) if settings.noise == "gaussian" else FlowMatching(solver, predicts=settings.predicts)
    return Parts(
        layout=layout,
        pattern=BlockCausal(),
        process=process,
        schedule=BlockByBlock(settings.steps),
        objective=TwoCopyLoss(process, layout, TwoCopy(), levels="unit", drop_label=settings.drop_label),
    )


SYSTEM = System(
    name="acdit",
    title="ACDiT",
    paper="arXiv:2412.07720",
    summary="one network sees a clean and a noisy copy; block size moves it from token-wise AR to full diffusion",
    family="video",
    settings=ACDiTSettings(),
    parts=parts,
    claim=Claim(
        paper="block size interpolates between AR and full diffusion; clean context beats noisy; exact KV cache",
        reproduced_if="4 units within 5 points of 1 unit on the verifier, clean context better than noisy context, and "
        "cached cost per frame below that of full attention from some tested length on",
    ),
)
