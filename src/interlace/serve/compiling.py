"""Constraints made in a process of their own: however long one takes, the server and everybody else go on."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from ..constraints import Automaton, Constraint, Kept, Vocabulary
from ..errors import InterlaceError, SettingError
from .wire import Refused, refusal

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from ..model import Model

__all__ = ["Compiler", "Wanted"]

log = logging.getLogger("interlace.serve")
AGAIN = 300.0
"""Seconds until what took too long is tried again: the machine may have been busy."""
BEGIN = 60.0
"""Seconds that the process may take to begin; it takes one on a quiet machine."""
LARGE = (RecursionError, OverflowError, MemoryError)


@dataclass(frozen=True)
class Wanted:
    """A constraint that is asked for. make: gives it, in whichever process. field: where it is asked for."""

    make: Callable[[], Constraint]
    field: str

    def made(self) -> Constraint:
        """``Refused`` for what cannot be made."""
        try:
            return self.make()
        except InterlaceError as error:
            raise refusal(error, self.field) from None
        except LARGE:
            raise Refused(f"{self.field} is too large; make it simpler", self.field) from None


class Compiler:
    """Makes constraints and their automata, one after the other, in a process that is killed when it takes too long.

    seconds: that a constraint may take. The process is started when first needed, and again after every kill; it is
    forked from one that has its modules loaded, so that takes milliseconds.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        self.seconds = seconds
        self._turn = asyncio.Lock()
        self._child: asyncio.Future[_Child] | None = None
        self._known: Kept[tuple[Constraint, Automaton]] = Kept(lambda found: found[1].bytes, 256)
        self._late: dict[Any, float] = {}  # what took too long, and until when it is not tried again
        self._closed = False

    async def make(self, wanted: Wanted, model: Model) -> Constraint:
        """``Refused`` for what cannot be made, or not in time. A cancelled caller ends the work."""
        try:
            words = await asyncio.to_thread(lambda: model.words)
        except InterlaceError as error:
            raise refusal(error, wanted.field) from None
        stop = tuple(model.checkpoint.stop_token_ids)
        job = pickle.dumps(wanted.make, pickle.HIGHEST_PROTOCOL)
        key = blake2b(job).digest(), words, stop
        if self._late.get(key, 0.0) > time.monotonic():
            raise self._too_late(wanted.field)
        if key not in self._known:
            async with self._turn:
                if self._late.get(key, 0.0) > time.monotonic():
                    raise self._too_late(wanted.field)
                if key not in self._known:
                    try:
                        found = await self._asked(wanted.field, job, words, stop)
                    except Refused as error:
                        if error.status == 400:
                            self._late = dict(list(self._late.items())[-255:])
                            self._late[key] = time.monotonic() + AGAIN
                        raise
                    self._known.put(key, found)
        try:
            constraint, automaton = self._known.get(key, _gone)
        except SettingError as error:
            raise refusal(error, wanted.field) from None
        constraint.keep(words, automaton)
        return constraint

    async def _asked(
        self, field: str, job: bytes, words: Vocabulary, stop: tuple[int, ...]
    ) -> tuple[Constraint, Automaton] | SettingError:
        child = await self._ready()
        try:
            async with asyncio.timeout(self.seconds):
                found: tuple[Constraint, Automaton] | SettingError = await _in_thread(
                    lambda: child.ask(job, words, stop)
                )
                return found
        except (EOFError, OSError) as error:  # a timeout is one of the latter
            self._kill()
            if self._closed:
                raise _closing() from None
            if isinstance(error, TimeoutError):
                raise self._too_late(field) from None
            return SettingError(f"{field} is too large; make it simpler")
        except BaseException:
            self._kill()
            raise

    def _too_late(self, field: str) -> Refused:
        late = f"it takes more than {self.seconds:g} s to prepare"
        return Refused(f"{field} is too large: {late}; make it simpler", field)

    async def _ready(self) -> _Child:
        """The process; whoever leaves while it begins leaves it to the next one."""
        if self._closed:
            raise _closing()
        if self._child is None:
            self._child = _in_thread(_Child)
        try:
            async with asyncio.timeout(BEGIN):
                return await asyncio.shield(self._child)
        except Exception:
            self._kill()
            log.exception("the process that prepares constraints could not begin")
            raise Refused("no constraint can be prepared; ask again", status=503) from None

    def _kill(self) -> None:
        starting, self._child = self._child, None
        if starting is not None:
            starting.add_done_callback(_killed)

    def close(self) -> None:
        """End the process; whoever waits for it is refused. To be called from any thread, again and again."""
        self._closed = True
        starting = self._child
        if starting is not None and starting.done():
            _killed(starting)


def _closing() -> Refused:
    return Refused("the server is shutting down; ask again", status=503, headers={"Retry-After": "5"})


def _gone() -> tuple[Constraint, Automaton]:
    raise SettingError("the constraint could not be kept; ask again")


def _killed(starting: asyncio.Future[_Child]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().kill()


def _in_thread(work: Callable[[], Any]) -> asyncio.Future[Any]:
    """In a thread that nobody waits for when the program ends."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def told(found: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(found) if error is None else future.set_exception(error)

    def run() -> None:
        found, error = None, None
        try:
            found = work()
        except BaseException as problem:
            error = problem
        with suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(told, found, error)

    threading.Thread(target=run, name="constraint", daemon=True).start()
    return future


class _Child:
    """The process, from here. It ends when this end of its pipe does, whatever it is doing."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs,), name="constraints", daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it has begun
        self._words: list[Vocabulary] = []

    def ask(self, job: bytes, words: Vocabulary, stop: tuple[int, ...]) -> tuple[Constraint, Automaton] | SettingError:
        """What the process makes of it. ``EOFError`` or ``OSError`` when it has ended."""
        if words not in self._words:
            self._words.append(words)
            self._pipe.send(words)
        self._pipe.send((job, self._words.index(words), stop))
        found: tuple[Constraint, Automaton] | SettingError = self._pipe.recv()
        return found

    def kill(self) -> None:
        self._process.kill()


def _work(pipe: Connection) -> None:
    """Make what is asked for, until nobody asks any more."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    words: list[Vocabulary] = []
    threading.Thread(target=_watch, args=(multiprocessing.parent_process(),), daemon=True).start()
    with suppress(EOFError, OSError):
        pipe.send("ready")
        while True:
            said = pipe.recv()
            if isinstance(said, Vocabulary):
                words.append(said)
                continue
            job, number, stop = said
            try:
                constraint = pickle.loads(job)()
                automaton = constraint.over(words[number])
                automaton.ended_by(stop)
                pipe.send((constraint, automaton))
            except InterlaceError as error:
                pipe.send(SettingError(str(error)))
            except LARGE:
                pipe.send(SettingError("it is too large; make it simpler"))


def _watch(server: Any) -> None:
    """End with the server, whatever is being made."""
    server.join()
    os._exit(0)
