"""Engines in processes of their own: callers never wait for their Python, and a process that dies loses no request."""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

import torch

from ..constraints import Kept
from ..errors import BusyError, EngineError, SettingError
from .child import main
from .engine import Engine, Stats
from .messages import Add, Allow, Close, Drop, Message, Opened, Refused, Told, error, receive, send, unpacked
from .preparing import Prepared, prepared
from .replay import Replay
from .service import Stream, deliver, drained

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from ..generation import Event
    from ..model import Model
    from .request import Request

__all__ = ["Workers"]

log = logging.getLogger(__name__)
SUSPECT = 2
"""Deaths, without a unit between them, after which a request shares a process with no other of which that is true."""
PATIENCE = 30.0
"""Seconds between two attempts to start a process, at most."""


@dataclass(eq=False)
class _Job:
    """A request, what its stream has been given, and the process that has it now."""

    number: int
    asked: Prepared
    stream: Stream
    replay: Replay = field(default_factory=Replay)
    worker: _Worker | None = None

    @property
    def paused(self) -> bool:
        """It has given all that it may, and runs nothing until it is read."""
        return self.stream.allowed is not None and self.replay.place >= self.stream.allowed

    @property
    def suspect(self) -> bool:
        return self.replay.deaths >= SUSPECT and not self.paused


class Workers:
    """Engines of one model in processes of their own, with the face of a ``Service``.

    Requests go to the process that may have the first page of their prompt in memory, unless it has more than its
    share of the work; then to the one that has least. A process that ends is started again, and what it had is done
    again by it or another: the same seed gives the same units, so a stream goes on behind those that it was given. A
    request under way in processes that ended, two in a row and without a unit between, fails if it was alone there; if
    it was not, it shares its third with no other such request, and fails when that one ends too.

    Args:
        model: that of the engines; its weights are not used, so ``device="meta"`` will do.
        opening: makes the engine, in every process; it is pickled: a function of a module, or a ``partial`` of one.
        count: how many processes. The threads of this one are divided among them.

    Waits until all processes are ready. Raises what ``opening`` raises, and ``EngineError`` when a process ends
    before it is ready. As with every use of spawned processes, a script that calls this guards its first lines with
    ``if __name__ == "__main__":``.

    >>> from functools import partial                                                   # doctest: +SKIP
    >>> model = interlace.load("twin", device="meta")                                   # doctest: +SKIP
    >>> workers = Workers(model, partial(Engine.open, partial(interlace.load, "twin")), 2)          # doctest: +SKIP
    >>> async for event in workers.submit(Request(tuple(model.encode("def ")), 16)): print(event)   # doctest: +SKIP
    """

    def __init__(self, model: Model, opening: Callable[[], Engine], count: int = 1) -> None:
        if count < 1:
            raise SettingError(f"the number of workers is {count}; pass 1 or more")
        self.model, self.count = model, count
        self.slots = self._page = self._most = 0  # until the first engine says
        """Tokens that the memory of an engine holds."""
        self._jobs: dict[Stream, _Job] = {}
        self._pending: dict[int, _Job] = {}  # of no process yet
        self._next = 0
        self._past = Stats()  # of processes that have ended
        self._lock = threading.Condition()
        self._running = self._closed = False
        threads = max(1, torch.get_num_threads() // count)
        arguments = opening, threads
        self._workers = [_Worker(number, arguments, self) for number in range(count)]
        atexit.register(self.close)
        try:
            for worker in self._workers:
                worker.thread.start()
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        """Until all are ready, or one says why it cannot be."""
        with self._lock:
            self._lock.wait_for(lambda: all(one.ready or one.problem for one in self._workers))
            problem = next((one.problem for one in self._workers if one.problem), None)
        if problem is not None:
            raise problem
        self._running = True

    # -- the face of a service ---------------------------------------------------------------------------------------

    def prepare(self, request: Request) -> Prepared:
        """What can be seen of a request at once; raises ``SettingError`` for one that cannot be generated."""
        return prepared(self.model, request, self.slots)

    def submit(
        self, request: Request | Prepared, loop: asyncio.AbstractEventLoop | None = None, ahead: int | None = None
    ) -> Stream:
        """Queue a request; ``loop``: where its stream is read, the running one by default; ``ahead``: see ``Stream``.

        Raises ``SettingError`` for one that cannot be generated, ``BusyError`` when too many are waiting.
        """
        asked = request if isinstance(request, Prepared) else self.prepare(request)
        stream = Stream(self, loop or asyncio.get_running_loop(), ahead)
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed; start the server again")
            if len(self._jobs) >= self._most:
                raise BusyError(f"{len(self._jobs)} requests are under way or waiting already; come again later")
            job = self._jobs[stream] = self._pending[self._next] = _Job(self._next, asked, stream)
            self._next += 1
            self._place(job)
        return stream

    def allow(self, stream: Stream, allowed: int) -> None:
        """Let a request give so many events, counted from its first."""
        with self._lock:
            job = self._jobs.get(stream)
            if job is not None and job.worker is not None:  # else it is told when it is placed
                job.worker.outbox.put(Allow(job.number, allowed))

    def cancel(self, stream: Stream) -> None:
        with self._lock:
            job = self._jobs.get(stream)
            if job is None:
                return
            if job.worker is not None:
                job.worker.outbox.put(Drop(job.number))
            self._end(job)
            deliver([(stream, None)])

    def stats(self) -> Stats:
        """All of them together. What is done again, because a process has ended, counts again."""
        with self._lock:
            found = Stats.total([self._past, *(one.stats for one in self._workers)])
            return replace(found, waiting=found.waiting + len(self._pending))

    @property
    def capacity(self) -> int:
        """Requests that can be under way and waiting together."""
        return self._most

    @property
    def alive(self) -> bool:
        """Whether requests are being worked on: by one process at least."""
        return self.up > 0 and not self._closed

    @property
    def up(self) -> int:
        """Processes that take requests now, of ``count``."""
        return sum(one.ready for one in self._workers)

    @property
    def stuck(self) -> bool:
        """Whether nothing takes requests: it was closed, or the last attempt to start a process failed."""
        return self._closed or (self.up == 0 and any(one.problem for one in self._workers))

    @property
    def pending(self) -> int:
        """Requests that have not ended."""
        return len(self._jobs)

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing is left to do, at most so long; whether that came."""
        return await drained(lambda: not self._jobs, seconds)

    def close(self) -> None:
        """Stop the processes; what is still under way fails."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            for worker in self._workers:
                worker.outbox.put(Close())
        for worker in self._workers:
            worker.stop()
        self._fail(EngineError("the engine was closed before the request had ended; ask again"))

    # -- which process has what --------------------------------------------------------------------------------------

    def _place(self, *jobs: _Job) -> None:
        """Give requests to processes, as far as there are any; with the lock."""
        for job in jobs:
            worker = self._choose(job)
            if worker is not None:
                del self._pending[job.number]
                job.worker = worker
                worker.jobs[job.number] = job
                automaton, constraint = job.asked.automaton, job.asked.request.constraint
                known = automaton is not None and constraint in worker.given
                worker.outbox.put(Add.of(job.number, job.asked, job.stream.allowed, known))
                if automaton is not None:
                    worker.given.put(constraint, automaton.bytes)

    def _place_all(self) -> None:
        """Those that killed most come first, or others would keep them waiting for a process of their own."""
        self._place(*sorted(self._pending.values(), key=lambda job: (-job.replay.deaths, job.number)))

    def _choose(self, job: _Job) -> _Worker | None:
        """The process that has the prompt, if its load is near the mean (bounded loads, arXiv:1608.01350)."""
        ready = [one for one in self._workers if one.ready]
        if job.suspect:
            ready = [one for one in ready if not any(other.suspect for other in one.jobs.values())]
        if not ready:
            return None
        first = job.asked.known[: self._page]
        if len(first) == self._page:
            name = blake2b(first.numpy().tobytes(), digest_size=8).digest()
            worker = self._workers[int.from_bytes(name) % self.count]
            mean = (1 + sum(len(one.jobs) for one in ready)) / len(ready)
            if worker in ready and len(worker.jobs) < math.ceil(1.25 * mean):
                return worker
        return min(ready, key=lambda one: len(one.jobs))

    def _end(self, job: _Job) -> None:
        """A request is gone, from wherever it was; with the lock."""
        del self._jobs[job.stream]
        self._pending.pop(job.number, None)
        if job.worker is not None:
            job.worker.jobs.pop(job.number, None)
            if job.suspect:
                self._place_all()

    def _fail(self, problem: Exception, jobs: list[_Job] | None = None) -> None:
        with self._lock:
            for job in list(self._jobs.values()) if jobs is None else jobs:
                self._end(job)
                deliver([(job.stream, problem)])

    # -- what processes say ------------------------------------------------------------------------------------------

    def _opened(self, worker: _Worker, said: Opened) -> None:
        with self._lock:
            worker.ready, worker.stats, worker.problem = True, said.stats, None
            self.slots = min(self.slots or said.stats.slots, said.stats.slots)
            self._page, self._most = said.page, self.count * (said.rows + said.waiting)
            self._place_all()
            self._lock.notify_all()

    def _told(self, worker: _Worker, told: Told) -> None:
        with self._lock:
            worker.stats = told.stats
            found: list[tuple[Stream, Event | Exception]] = []
            for number, one in told.found:
                job = worker.jobs.get(number)
                if job is not None:  # else it was cancelled meanwhile
                    new = self._new(job, error(one) if isinstance(one, Refused) else unpacked(number, one))
                    found += [] if new is None else [(job.stream, new)]
            deliver(found)

    def _new(self, job: _Job, one: Event | Exception) -> Event | Exception | None:
        """What a request is given, if it was not given that before; with the lock."""
        if not isinstance(one, Exception):
            suspect = job.suspect
            try:
                if not job.replay.new(one):
                    if suspect and not job.suspect:
                        self._place_all()
                    return None
            except EngineError as problem:
                assert job.worker is not None
                job.worker.outbox.put(Drop(job.number))
                one = problem
            else:
                if suspect:
                    self._place_all()
        if isinstance(one, Exception) or one.last:
            self._end(job)
        return one

    def _lost(self, worker: _Worker, problem: Exception, began: bool) -> None:
        """A process has ended; what it had goes to others, but for what may have ended it."""
        with self._lock:
            if self._running or began:
                log.error("%s; of its requests, %d are done again", problem, len(worker.jobs))
            self._past = Stats.total([self._past, worker.stats.ended()])
            worker.ready, worker.stats, worker.problem = False, Stats(), None if began else problem
            jobs, worker.jobs = list(worker.jobs.values()), {}
            guilty = []
            for job in jobs:
                again, idle = job.suspect, job.paused
                job.replay.begin() if idle else job.replay.died()
                job.worker = None
                self._pending[job.number] = job
                if again or (len(jobs) == 1 and job.suspect):
                    guilty.append(job)
            cause = "the processes that worked on this request ended, one after the other; change it, and see the log"
            self._fail(EngineError(cause), guilty)
            if not began and self.up == 0:  # nobody knows whether another will: none shall wait for it
                cause = f"the engine cannot be started again: {problem}"
                self._fail(EngineError(cause), list(self._pending.values()))
            self._place_all()
            self._lock.notify_all()


class _Worker:
    """One process after the other, and the thread that starts them and hears them."""

    def __init__(self, number: int, arguments: tuple[Callable[[], Engine], int], workers: Workers) -> None:
        self.number, self.arguments, self.workers = number, arguments, workers
        self.ready, self.stats = False, Stats()
        self.problem: Exception | None = None
        self.jobs: dict[int, _Job] = {}
        self.given: Kept[int] = Kept(_same)
        """Constraints whose automata the process has: it keeps what it is given as this does."""
        self.process: BaseProcess | None = None
        self.outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.run, name=f"engine {number}", daemon=True)

    def stop(self) -> None:
        """Wait for the end of the process, which was told to end; one that does not hear is killed."""
        if self.thread.ident is None:
            return
        self.thread.join(10.0)
        if self.thread.is_alive():
            process = self.process
            if process is not None:
                with suppress(ValueError):  # it has ended meanwhile
                    process.kill()
            self.thread.join()

    def run(self) -> None:
        """Keep a process until the end."""
        workers, tries = self.workers, 0
        while not workers._closed:
            problem, began = self._live()
            if workers._closed:
                return
            workers._lost(self, problem, began)
            if not began and not workers._running:
                return  # whoever makes the workers hears of it
            tries = 0 if began else tries + 1
            pause = min(PATIENCE, 2.0 ** (tries - 1)) if tries else 0.0
            log.warning("a process of the engine is started again%s", f" in {pause:g} s" if pause else "")
            with workers._lock:
                workers._lock.wait_for(lambda: workers._closed, pause)

    def _live(self) -> tuple[Exception, bool]:
        """A process from its beginning to its end: why it ended, and whether it had been ready."""
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.outbox, self.given = outbox, Kept(_same)
        name = f"engine {self.number}"
        process = context.Process(target=main, args=(theirs, *self.arguments), name=name, daemon=True)
        try:
            process.start()
        except Exception as problem:
            pipe.close()
            theirs.close()
            cause = f"a process of the engine could not be started ({type(problem).__name__}: {problem})"
            return EngineError(cause), False
        theirs.close()  # so that its end is seen
        self.process = process
        writer = threading.Thread(target=_write, args=(pipe, outbox, process), name=f"to {name}", daemon=True)
        writer.start()
        if self.workers._closed:
            outbox.put(Close())
        said, began = self._hear(pipe, process)
        self.ready = False
        outbox.put(None)
        writer.join()
        pipe.close()
        process.join(5.0)
        if process.is_alive():
            process.kill()
            process.join()
        code = process.exitcode or 0
        process.close()
        self.process = None
        if said is not None:
            return said, began
        how = f"was ended by {_signal(-code)}" if code < 0 else f"ended with status {code}"
        when = "" if began else " while it opened the model; there may be too little memory for so many workers"
        return EngineError(f"a process of the engine {how}{when}"), began

    def _hear(self, pipe: Connection, process: BaseProcess) -> tuple[Exception | None, bool]:
        """All that the process says; the reason why it cannot begin, if it gives one, and whether it had been ready."""
        began = False
        while True:
            try:
                if pipe not in wait([pipe, process.sentinel]) and not pipe.poll():
                    return None, began
                message = receive(pipe)
            except (EOFError, OSError):
                return None, began
            if isinstance(message, Opened):
                began = True
                self.workers._opened(self, message)
            elif isinstance(message, Told):
                try:
                    self.workers._told(self, message)
                except Exception:  # nobody may wait forever for what was lost here
                    log.exception("what a process said was not understood")
                    process.kill()
                    return None, began
            elif isinstance(message, Refused):
                return error(message), began


def _write(pipe: Connection, outbox: queue.SimpleQueue[Message | None], process: BaseProcess) -> None:
    """Send what is in the outbox, up to None, or until nobody hears it."""
    with suppress(OSError):
        while (message := outbox.get()) is not None:
            try:
                send(pipe, message)
            except OSError:
                raise
            except Exception:  # nobody may wait forever for what was lost here
                log.exception("a request could not be sent")
                process.kill()
                return


def _same(size: int) -> int:
    return size


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
