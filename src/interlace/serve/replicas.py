"""Engines as replicas of a Ray Serve deployment, on one machine or a cluster; the server in front of them loses none.

Ray Serve starts the replicas, checks that they are well, replaces those that are not, and chooses between them. What
it does not do is go on with an answer whose replica is gone: its own proxy would end it with an error. So the server
stands in front: it keeps the requests, and does those of a lost replica again on another, behind what clients have.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..engine import Prepared, Service, Stats, Stream
from ..engine.child import reason
from ..engine.messages import Add, Opened, Refused, error, event, refused, unpacked
from ..engine.preparing import prepared
from ..engine.replay import Replay
from ..engine.service import deliver, drained
from ..errors import BusyError, EngineError, InterlaceError, SettingError

if TYPE_CHECKING:
    from ..engine import Engine, Request
    from ..model import Model

__all__ = ["Replicas"]

log = logging.getLogger("interlace.serve")
MOST = 3
"""Replicas that a request may lose, one after the other and without a unit between them."""
EVERY = 0.5
"""Seconds between two looks at which replicas are there."""
TOGETHER = 0.01
"""Seconds in which what several requests are allowed is gathered."""
Said = tuple[str, tuple[Any, ...] | Refused, Stats]


class Replica:
    """What runs in a replica: an engine, in a thread of its own."""

    def __init__(self, opening: Callable[[], Engine], neighbours: int) -> None:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // neighbours))
        self.name = f"{os.uname().nodename}:{os.getpid()}"
        try:
            engine = opening()
        except Exception as problem:  # the server reads the last line of it
            raise error(reason(problem)) from None
        self.size = Opened(engine.stats(), engine.pool.size, engine.rows, engine.most)
        engine.most = sys.maxsize  # the server counts who waits
        self.service = Service(engine)
        self.streams: dict[int, Stream] = {}

    def check_health(self) -> None:
        """Raises when Ray Serve shall replace this replica."""
        if not self.service.alive:
            raise RuntimeError("the engine does not run")

    async def opened(self) -> Opened:
        """How large the engine is."""
        return self.size

    async def stats(self) -> tuple[str, Stats]:
        """This replica, and where its engine stands."""
        return self.name, self.service.stats()

    async def allow(self, allowed: dict[int, int]) -> None:
        """Of the requests of these numbers, those that are here may give so many events, counted from the first."""
        for number, count in allowed.items():
            if number in self.streams:
                self.service.allow(self.streams[number], count)

    async def generate(self, asked: Add) -> AsyncIterator[Said]:
        """What a request gives: (this replica, an event or the error that ends it, where the engine stands)."""
        self.check_health()
        stream = None
        try:
            request = asked.asked(self.service.engine.model)
            prepared = await asyncio.to_thread(self.service.prepare, request)
            stream = self.streams[asked.number] = self.service.submit(prepared, allowed=asked.allowed)
            async for one in stream:
                yield self.name, event(one), self.service.stats()
        except InterlaceError as problem:
            yield self.name, refused(problem), self.service.stats()
        finally:
            if stream is not None:
                stream.cancel()
                if self.streams.get(asked.number) is stream:
                    del self.streams[asked.number]


class Replicas:
    """Engines of one model in replicas of a Ray Serve deployment, with the face of a ``Service``.

    Args:
        model: that of the engines; its weights are not used, so ``device="meta"`` will do.
        opening: makes the engine, in every replica.
        count: how many replicas. engines: how many there are of all models together, who share the cluster's GPUs.

    In the cluster that ``RAY_ADDRESS`` names, or else in one of this machine that ends with this process. Waits until
    the replicas are ready. Raises ``SettingError`` without Ray, and what ``opening`` raises.
    """

    def __init__(self, model: Model, opening: Callable[[], Engine], count: int, engines: int | None = None) -> None:
        if count < 1:
            raise SettingError(f"the number of replicas is {count}; pass 1 or more")
        _started()
        import ray
        from ray import serve

        self.model, self.count = model, count
        share = min(1.0, math.floor(100 * ray.cluster_resources().get("GPU", 0) / (engines or count)) / 100)
        neighbours = -(-count // sum(node["Alive"] for node in ray.nodes()))  # on a machine
        deployment = serve.deployment(Replica).options(
            num_replicas=count,
            max_ongoing_requests=100_000,  # the server counts them
            ray_actor_options={"num_cpus": 0, "num_gpus": share},
            graceful_shutdown_timeout_s=5.0,
            max_constructor_retry_count=1,  # before the first has begun; later ones are tried again and again
            logging_config={"enable_access_log": False, "log_level": "ERROR"},
        )
        self.name = f"interlace-{secrets.token_hex(4)}"
        self._live: dict[Stream, Future[None] | None] = {}
        self._allowed: dict[int, int] = {}  # what replicas have not been told yet
        self._telling: asyncio.Task[None] | None = None
        self._numbers: dict[Stream, int] = {}
        self._next = 0
        self.again = 0
        """Requests that were done again, because their replica was lost."""
        self._stats: dict[str, Stats] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        try:
            handle = serve.run(deployment.bind(opening, neighbours), name=self.name, route_prefix=None)
            said: Opened = handle.opened.remote().result()
        except BaseException as problem:
            told = self._why() if isinstance(problem, RuntimeError) else None
            self._delete()
            raise told or problem from None
        self._handle = handle.options(stream=True)
        self.slots = said.stats.slots
        self._most = count * (said.rows + said.waiting)
        self.up = count
        self._watcher = threading.Thread(target=self._watch, name="replicas", daemon=True)
        self._watcher.start()

    def prepare(self, request: Request) -> Prepared:
        """What can be seen of a request at once; raises ``SettingError`` for one that cannot be generated."""
        return prepared(self.model, request, self.slots)

    def submit(
        self, request: Request | Prepared, loop: asyncio.AbstractEventLoop | None = None, ahead: int | None = None
    ) -> Stream:
        """Queue a request; ``loop``: where its stream is read, the running one by default; ``ahead``: see ``Stream``.

        Raises ``SettingError`` for one that cannot be generated, ``BusyError`` when too many are waiting.
        """
        if self._closed.is_set():
            raise EngineError("the engine is closed; start the server again")
        if len(self._live) >= self._most:
            raise BusyError(f"{len(self._live)} requests are under way or waiting already; come again later")
        asked = request if isinstance(request, Prepared) else self.prepare(request)
        loop = loop or asyncio.get_running_loop()
        stream = Stream(self, loop, ahead)
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._live[stream] = None  # it may end before its future is known here
            following = asyncio.run_coroutine_threadsafe(self._follow(stream, number, asked), loop)
            if stream in self._live:
                self._live[stream] = following
        return stream

    def allow(self, stream: Stream, allowed: int) -> None:
        """Let a request give so many events, counted from its first. Called in the loop where it is read."""
        number = self._numbers.get(stream)
        if number is not None:  # else it is told when it begins
            self._allowed[number] = allowed
            if self._telling is None or self._telling.done():
                self._telling = stream._loop.create_task(self._tell())

    async def _tell(self) -> None:
        """Tell all replicas what has come together in a moment: which of them has a request, they know."""
        while self._allowed and not self._closed.is_set():
            await asyncio.sleep(TOGETHER)
            told, self._allowed = self._allowed, {}
            try:
                said = await self._handle.broadcast("allow", told).results_async(
                    timeout_s=10 * EVERY, return_exceptions=True
                )
                lost = next((one for one in said if isinstance(one, Exception)), None)
                if lost is not None:
                    raise lost
            except Exception as problem:
                log.warning("replicas could not be told which requests go on (%s)", type(problem).__name__)
                self._allowed = told | self._allowed
                await asyncio.sleep(EVERY)

    def cancel(self, stream: Stream) -> None:
        self._drop(stream, None)

    def _drop(self, stream: Stream, why: Exception | None) -> None:
        with self._lock:
            following = self._live.pop(stream, None)
        if following is not None:
            following.cancel()
            deliver([(stream, why)])

    def stats(self) -> Stats:
        """All replicas together, each as it last said. What is done again, because a replica was lost, counts again."""
        return replace(Stats.total(list(self._stats.values())), slots=self.up * self.slots)

    @property
    def capacity(self) -> int:
        """Requests that can be under way and waiting together."""
        return self._most

    @property
    def alive(self) -> bool:
        """Whether requests are being worked on: by one replica at least."""
        return self.up > 0 and not self._closed.is_set()

    @property
    def stuck(self) -> bool:
        """Whether nothing takes requests, and nothing will; Ray Serve tries again and again."""
        return self._closed.is_set()

    @property
    def pending(self) -> int:
        """Requests that have not ended."""
        return len(self._live)

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing is left to do, at most so long; whether that came."""
        return await drained(lambda: not self._live, seconds)

    def close(self) -> None:
        """Stop the replicas; what is still under way fails."""
        if self._closed.is_set():
            return
        self._closed.set()
        closed = EngineError("the engine was closed before the request had ended; ask again")
        for stream in list(self._live):
            self._drop(stream, closed)
        self._watcher.join()
        self._delete()

    def _why(self) -> Exception | None:
        """Why replicas cannot begin, as they say themselves."""
        from ray import serve

        deployments = serve.status().applications[self.name].deployments
        said = " ".join(one.message for one in deployments.values())
        found = re.findall(r"interlace\.errors\.(\w+): (.+)", said)
        return error(Refused(*found[-1])) if found else None

    def _delete(self) -> None:
        from ray import serve

        with suppress(Exception):  # whatever else is gone, the replicas are
            serve.delete(self.name)

    async def _follow(self, stream: Stream, number: int, asked: Prepared) -> None:
        """Give a stream what its request gives, on as many replicas as it takes."""
        self._numbers[stream] = number
        try:
            problem = await self._followed(stream, number, asked)
        finally:
            del self._numbers[stream]
        self._live.pop(stream, None)
        if problem is not None:
            deliver([(stream, problem)])

    async def _followed(self, stream: Stream, number: int, asked: Prepared) -> Exception | None:
        """Why it failed."""
        replay = Replay()
        while True:
            name, allowed, response = "", stream.allowed, None
            try:
                response = self._handle.generate.remote(Add.of(number, asked, allowed))
                async for name, said, stats in response:
                    self._stats[name] = stats
                    if stream.allowed is not None and stream.allowed != allowed:
                        allowed = stream.allowed  # it was said before the replica knew of the request, perhaps
                        self.allow(stream, allowed)
                    if isinstance(said, Refused):
                        raise error(said)
                    one = unpacked(number, said)
                    if replay.new(one):
                        deliver([(stream, one)])
                    if one.last:
                        return None
                raise RuntimeError("the answer has no end")
            except asyncio.CancelledError:
                if response is not None:
                    response.cancel()
                raise
            except InterlaceError as found:
                if response is not None:
                    response.cancel()
                return found
            except Exception as lost:  # the replica is gone, or failed
                if name in self._stats:
                    self._stats[name] = self._stats[name].ended()
                replay.died()
                self.again += 1
                log.error("a replica was lost (%s); its request is done again", type(lost).__name__)
                if replay.deaths >= MOST:
                    cause = "the replicas that worked on this request ended, one after the other; change it"
                    return EngineError(f"{cause}, and see the log")
                await asyncio.sleep(0.1 * 2**replay.deaths)

    def _watch(self) -> None:
        """Look which replicas are there, and where they stand."""
        from ray import serve

        while not self._closed.wait(EVERY):
            with suppress(Exception):  # the controller is started again, too
                deployments = serve.status().applications[self.name].deployments
                self.up = sum(one.replica_states.get("RUNNING", 0) for one in deployments.values())
                said = self._handle.broadcast("stats").results(timeout_s=10 * EVERY, return_exceptions=True)
                here: dict[str, Stats] = dict(one for one in said if isinstance(one, tuple))
                gone = {name: stats.ended() for name, stats in self._stats.items() if name not in here}
                self._stats = gone | here


def _started() -> None:
    """Ray and Ray Serve are there, without a port of their own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of this goes anywhere
    try:
        import ray
        from ray import serve
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "interlace":
            raise
        raise SettingError(f"{missing.name} is missing, which replicas need; pip install 'interlace[ray]'") from None
    if not ray.is_initialized():
        local = {} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False, "object_store_memory": 128 << 20}
        ray.init(log_to_driver=False, logging_level="ERROR", **local)
    serve.start(proxy_location="Disabled")
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # what matters is said here, in the server's own words
