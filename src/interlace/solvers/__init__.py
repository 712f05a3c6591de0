"""Fixed-grid solvers: one step from a noisier to a cleaner level, given what the network says is clean."""

from .ancestral import Ancestral
from .ddim import DDIM
from .dpm import DPMSolver2M
from .protocol import Solver, Span

__all__ = ["DDIM", "Ancestral", "DPMSolver2M", "Solver", "Span"]
