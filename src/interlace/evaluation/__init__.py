"""How good and how fast a text model is: likelihood, completion, infilling, and the frontier between speed and quality.

Every measurement is a function of (model, data, seed): the same seed gives the same numbers, the wall clock excepted.
"""

from .completion import Completion, Completions, complete
from .frontier import Point, frontier
from .infilling import Filling, Fillings, infill
from .likelihood import Likelihood, likelihood, pieces

__all__ = [
    "Completion",
    "Completions",
    "Filling",
    "Fillings",
    "Likelihood",
    "Point",
    "complete",
    "frontier",
    "infill",
    "likelihood",
    "pieces",
]
