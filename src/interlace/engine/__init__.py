"""Many requests at once: they share forwards, and each gives what it would give alone."""

from .engine import Engine, Failure, Prepared, Stats
from .request import Request
from .service import Service, Stream

__all__ = ["Engine", "Failure", "Prepared", "Request", "Service", "Stats", "Stream"]
