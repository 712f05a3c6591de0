"""A process that runs one engine for its parent, and ends with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

from ..errors import EngineError, InterlaceError
from .driver import Driver, Found
from .engine import Engine, Stats
from .messages import Add, Allow, Close, Drop, Message, Opened, Refused, Told, event, receive, refused, send

__all__ = ["main", "reason"]


class _Line:
    """The pipe to the parent; one message at a time."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self._lock = pipe, threading.Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            send(self.pipe, message)


def main(pipe: Connection, opening: Callable[[], Engine], threads: int) -> None:
    """Open the engine, then work on what comes through the pipe. Does not return.

    The parent decides when this process ends: signals that reach the whole group (Ctrl-C, SIGTERM of a supervisor) are
    left to it, and when its end of the pipe closes, because it was killed or for any other reason, this process ends at
    once, whatever it is doing.
    """
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    torch.set_num_threads(threads)
    opened: list[Driver] = []
    line = _Line(pipe)
    threading.Thread(target=_listen, args=(line, opened), name="pipe", daemon=True).start()
    try:
        engine = opening()
    except Exception as problem:
        line.send(reason(problem))
        os._exit(1)
    sizes = Opened(engine.stats(), engine.pool.size, engine.rows, engine.most)
    engine.most = sys.maxsize  # the parent counts who waits, for all its processes together
    told = sizes.stats

    def tell(found: Found, stats: Stats) -> None:
        nonlocal told
        if found or stats != told:
            plain = [(name, refused(one) if isinstance(one, Exception) else event(one)) for name, one in found]
            line.send(Told(plain, stats))  # type: ignore[arg-type]
            told = stats

    opened.append(Driver(engine, tell))
    line.send(sizes)
    try:
        opened[0].run()
    except OSError:  # the parent is gone
        os._exit(1)
    except BaseException:  # no row is to blame for sure: the parent finds out, with another process
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _listen(line: _Line, opened: list[Driver]) -> None:
    """Take in what the parent says; nothing is said before ``Opened``."""
    while True:
        try:
            message = receive(line.pipe)
        except (EOFError, OSError):
            message = Close()
        if isinstance(message, Close):
            os._exit(0)
        driver = opened[0]
        if isinstance(message, Add):
            try:
                asked = message.asked(driver.engine.model)
                driver.add(message.number, driver.engine.prepare(asked), message.allowed)
            except Exception as problem:
                line.send(Told([(message.number, reason(problem))], driver.engine.stats()))
        elif isinstance(message, Allow):
            driver.allow(message.number, message.allowed)
        elif isinstance(message, Drop):
            driver.cancel(message.number)


def reason(problem: Exception) -> Refused:
    """One clear error, whatever went wrong."""
    if isinstance(problem, InterlaceError):
        return refused(problem)
    text = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    if isinstance(problem, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return refused(
            EngineError("there is not enough memory for the model and its engine; pass fewer workers, or fewer slots")
        )
    traceback.print_exception(problem)
    return refused(EngineError(f"the engine could not begin ({type(problem).__name__}: {text}); see its traceback"))
