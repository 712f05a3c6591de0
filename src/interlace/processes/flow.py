"""Flow matching on the straight path."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .continuous import GaussianPath

__all__ = ["FlowMatching"]


@dataclass(frozen=True)
class FlowMatching(GaussianPath):
    """x_t = (1 - t) clean + t noise; the network predicts the velocity noise - clean; loss = squared error.

    Sampling integrates dx = v dt from t = 1 to 0 on a fixed grid. Source: flow matching (arXiv:2210.02747), rectified
    flow (arXiv:2209.03003); here t is the noise level, so 0 is clean.

    Args:
        predicts: "velocity", or "clean": the network gives the clean value itself, which a narrow network learns far
            sooner, as it need not carry the noise of wide tokens from end to end (arXiv:2511.13720).
    """

    predicts: str = "velocity"

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - clean if self.predicts == "velocity" else clean

    def clean(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return x - t * prediction if self.predicts == "velocity" else prediction
