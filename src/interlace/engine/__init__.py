"""Many requests at once: they share forwards, and each gives what it would give alone."""

from .engine import Engine, Failure, Stats
from .preparing import Prepared
from .request import Request
from .service import Service, Stream
from .worker import Workers

__all__ = ["Engine", "Failure", "Prepared", "Request", "Service", "Stats", "Stream", "Workers"]
