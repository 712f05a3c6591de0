"""The engine: requests share forwards, and come and go between moves.

    admit     waiting requests, in their order, while memory holds what they need to begin
    feed      the next move of every row; of long prompts, a piece
    forward   all of it at once, whatever systems and settings the rows have
    advance   the rows of each path together, as ``generate`` does
    publish   the pages that became final, under names by which other rows find them

A row's tokens depend on nothing but the row: rows see each other nowhere, noise is indexed by (seed, unit, step), and
on a processor every sum of the compiled kernels is taken in an order that no other row changes.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import grid, sampling
from ..errors import BusyError, EngineError, SettingError
from ..generation import Asked, Event, Feed, Head, Row, Walk
from ..memory import PagedKV, Pool, Span, paged
from ..nn.native import accelerated
from .graphs import Graphs, on_cuda
from .packing import forward, heads
from .prefix import Chain
from .preparing import Prepared, prepared, walk_of

if TYPE_CHECKING:
    from ..model import Model
    from .request import Request

__all__ = ["Engine", "Failure", "Stats"]

CHUNK = 256
"""Tokens of prompts that a move feeds beside the rows that decode."""


@dataclass(frozen=True)
class Failure:
    """The end of a request that could not be finished, and why."""

    request: int
    error: Exception


@dataclass(frozen=True)
class Stats:
    """Where an engine stands; counts are since its start.

    running, waiting, paused: requests. slots, slots_used: tokens that the memory can hold, and holds for requests under
    way. prompt_tokens: of all prompts; cached_tokens: those of them that were found in memory. tokens: new ones that
    became final. moves: steps of the engine; forwards: network calls; row_moves: moves of single rows. units: those
    that became clean. preemptions: rows that had to give their memory back for a while.
    """

    running: int = 0
    waiting: int = 0
    paused: int = 0
    slots: int = 0
    slots_used: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    moves: int = 0
    forwards: int = 0
    row_moves: int = 0
    units: int = 0
    preemptions: int = 0


    @classmethod
    def total(cls, every: Sequence[Stats]) -> Stats:
        """Of several engines together."""
        return cls(**{one.name: sum(getattr(stats, one.name) for stats in every) for one in fields(cls)})

    def ended(self) -> Stats:
        """Of an engine that is no more: what it did, and nothing of what it had."""
        return replace(self, running=0, waiting=0, paused=0, slots=0, slots_used=0)


@dataclass(eq=False)
class _Job:
    """A request in the queue, under way or paused. row: its row, once it has one; it keeps it while it waits. cached:
    tokens of its prompt that were in memory; since, waited: when it came, and how long for its first turn."""

    number: int
    asked: Prepared
    lane: _Lane
    row: Row | None = None
    chain: Chain | None = None
    published: int = 0
    new: int = 0
    paused: bool = False
    cached: int = 0
    since: float = field(default_factory=time.perf_counter)
    waited: float | None = None

    def __lt__(self, other: _Job) -> bool:
        return self.number < other.number


@dataclass(eq=False)
class _Lane:
    """Rows of one path: their walk, their memory, and the jobs that they belong to, in the order of ``walk.alive``."""

    walk: Walk
    memory: PagedKV
    jobs: list[_Job] = field(default_factory=list)
    users: int = 0


class Engine:
    """Requests that share a model: ``add`` them, ``step`` until nothing is left, ``cancel`` what nobody wants any more.

    ``step`` makes one move for every row that is under way and returns what became clean (``Event.row`` is the number
    of the request). A request gives the same alone or among others, and however often it is paused on its way
    (``pause``, ``resume``).

    Args:
        model: of text; its weights may not change any more.
        slots: tokens whose keys and values the memory holds, for all rows together. page: tokens of a page.
        rows: requests that are under way at once. waiting: requests that may wait; further ones are refused.
        chunk: tokens of prompts that a move feeds besides the rows that decode.
        graphs: whether small forwards are recorded once for every shape and played again; on a GPU alone.

    Raises ``SettingError`` for a model that does not generate text, and for sizes below 1.

    >>> import interlace                                                                # doctest: +SKIP
    >>> engine = Engine(interlace.load("twin"))                                         # doctest: +SKIP
    >>> engine.add(Request(tuple(engine.model.encode("def area(")), length=16))         # doctest: +SKIP
    >>> while engine.busy: print(engine.step())                                         # doctest: +SKIP
    """

    def __init__(
        self,
        model: Model,
        slots: int = 65536,
        page: int = 16,
        rows: int = 64,
        waiting: int = 1024,
        chunk: int = CHUNK,
        graphs: bool = True,
    ) -> None:
        config = model.checkpoint.config
        if config.features:
            raise SettingError("an engine generates text, and this model reads features; use generate")
        for name, value in {"slots": slots, "page": page, "rows": rows, "chunk": chunk}.items():
            if value < 1:
                raise SettingError(f"{name} is {value}; pass 1 or more")
        self.model, self.rows, self.most, self.chunk = model, rows, waiting, chunk
        self.network = accelerated(model.network, invariant=True)
        for part in (grid, sampling):
            part.library()  # compiled now, not in the first request
        parameter = next(model.network.parameters())
        if graphs and parameter.device.type == "cuda":
            self.network = Graphs(self.network, on_cuda(parameter.device))
        self.pool = Pool(
            config.num_layers, config.num_kv_heads, config.head_dim, -(-slots // page), page, parameter.dtype,
            parameter.device,
        )  # fmt: skip
        self._lanes: dict[tuple[Any, ...], _Lane] = {}
        self._jobs: dict[int, _Job] = {}
        self._waiting: list[_Job] = []
        self._next = 0
        self._counts = dict.fromkeys(
            ("prompt_tokens", "cached_tokens", "tokens", "moves", "forwards", "row_moves", "units", "preemptions"), 0
        )

    @classmethod
    def open(cls, opening: Callable[[], Model], **sizes: Any) -> Engine:
        """An engine of the model that ``opening`` gives."""
        return cls(opening(), **sizes)

    @property
    def busy(self) -> bool:
        """Whether there is something to do: a request that is not paused."""
        return bool(self._running or self._waiting)

    @property
    def _running(self) -> int:
        return sum(len(lane.jobs) for lane in list(self._lanes.values()))  # other threads ask too

    def prepare(self, request: Request) -> Prepared:
        """Everything about a request that can be seen at once; safe to call in another thread than ``step``.

        Raises ``SettingError`` for one that cannot be generated.
        """
        return prepared(self.model, request, self.pool.pages * self.pool.size)

    def add(self, request: Request | Prepared) -> int:
        """Queue a request; its number.

        Raises ``SettingError`` for one that cannot be generated, ``BusyError`` when too many are waiting.
        """
        asked = request if isinstance(request, Prepared) else self.prepare(request)
        if len(self._waiting) >= self.most:
            raise BusyError(f"{self.most} requests are waiting already; come again later")
        lane = self._lanes.get(asked.path)
        if lane is None:
            memory = paged(asked.parts.memory, self.pool)
            walk = walk_of(self.model.network, asked.parts, asked.request)
            walk.memory = memory
            lane = self._lanes[asked.path] = _Lane(walk, memory)
        job = _Job(self._next, asked, lane)
        self._next += 1
        lane.users += 1
        self._jobs[job.number] = job
        heapq.heappush(self._waiting, job)
        self._counts["prompt_tokens"] += len(asked.known)
        return job.number

    def cancel(self, number: int) -> None:
        """Forget a request; nothing happens when it has ended."""
        job = self._jobs.get(number)
        if job is not None:
            self._end(job)

    def pause(self, number: int) -> None:
        """Make no further move for a request until ``resume``; nothing happens when it has ended.

        Others find its memory free at once, and its place among them as well. Its pages stay as long as nobody needs
        them; what is lost of them is computed again. A row whose keys may be stale first finishes the units
        that are under way, for nothing would give it the same keys again.
        """
        job = self._jobs.get(number)
        if job is not None and not job.paused:
            job.paused = True
            if job in self._waiting:
                self._waiting.remove(job)
                heapq.heapify(self._waiting)
            self._rest(job)

    def resume(self, number: int) -> None:
        """Go on with a request that was paused, in the order in which it came; nothing happens when it has ended."""
        job = self._jobs.get(number)
        if job is not None and job.paused:
            job.paused = False
            if job not in job.lane.jobs:
                heapq.heappush(self._waiting, job)

    def step(self) -> list[Event | Failure]:
        """One move of everything that is under way."""
        for job in [job for lane in self._lanes.values() for job in lane.jobs if job.paused]:
            self._rest(job)
        with torch.inference_mode():
            found: list[Event | Failure] = list(self._admit())
            lanes = [lane for lane in self._lanes.values() if lane.jobs]
            pieces = self._plan(lanes)
            found += self._move(pieces)
        self._counts["moves"] += bool(pieces)
        for lane in lanes:
            self._publish(lane)
        return found

    def stats(self) -> Stats:
        running, waiting = self._running, len(self._waiting)
        slots, used = self.pool.pages * self.pool.size, self.pool.used * self.pool.size
        return Stats(running, waiting, len(self._jobs) - running - waiting, slots, used, **self._counts)

    # -- who is under way --------------------------------------------------------------------------------------------

    def _admit(self) -> list[Event]:
        """Take waiting requests in while there is room; what ends without a step."""
        found: list[Event] = []
        while self._waiting and self._running < self.rows:
            job = self._waiting[0]
            lane, asked, request = job.lane, job.asked, job.asked.request
            walk, memory = lane.walk, lane.memory
            if job.row is None:
                job.row = walk.add(
                    asked.known, request.length, request.seed, None, asked.stop, request.places, asked.automaton,
                    job.number,
                )  # fmt: skip
                private = b"" if request.places is None else request.places.numpy().tobytes()
                job.chain = Chain(walk, job.row, self.pool.size, private)
                if job.row.levels.frontier() >= job.row.end:
                    heapq.heappop(self._waiting)
                    memory.join([])
                    walk.join(job.row)
                    lane.jobs.append(job)
                    found += walk.idle()
                    self._gone(lane)
                    continue
            assert job.chain is not None
            memory.join([])
            walk.join(job.row)
            last = len(walk.alive) - 1
            pages = []
            for name in job.chain.upto(job.chain.whole(walk.ready(last))):
                page = self.pool.shared(name)
                if page is None:
                    break
                pages.append(page)
            while pages and job.chain.whole(len(pages) * self.pool.size) != len(pages):
                self.pool.release([pages.pop()])
            memory.tables[last] = list(pages)
            if memory.keeps:
                memory.lengths[last] = len(pages) * self.pool.size
            want = asked.cells + walk.extra if memory.stale or not memory.keeps else walk.reach(last)
            if memory.lacks(last, want) > self.pool.available:
                walk.leave(last)
                break
            memory.hold(last, want)
            heapq.heappop(self._waiting)
            lane.jobs.append(job)
            job.published = len(pages)
            if job.waited is None:
                job.waited, job.cached = time.perf_counter() - job.since, len(pages) * self.pool.size
                self._counts["cached_tokens"] += job.cached
        return found

    def _leave(self, job: _Job) -> None:
        """A row gives its memory back, and waits until there is room for it again."""
        job.lane.walk.moves.pop(self._part(job))
        heapq.heappush(self._waiting, job)
        self._counts["preemptions"] += 1

    def _rest(self, job: _Job) -> None:
        """A row that is paused gives its memory back, if it is under way and reads no stale keys in its next move."""
        lane, row = job.lane, job.row
        if job in lane.jobs and row is not None and not (lane.memory.stale and row.begun):
            self._part(job)

    def _part(self, job: _Job) -> int:
        """A row leaves its walk, and may join again; which of its rows it was."""
        r = job.lane.jobs.index(job)
        job.lane.walk.leave(r)
        job.lane.jobs.pop(r)
        return r

    def _end(self, job: _Job) -> None:
        """A request is gone, from wherever it was."""
        lane, walk = job.lane, job.lane.walk
        if job in lane.jobs:
            r = lane.jobs.index(job)
            walk.keep([other for other in range(len(lane.jobs)) if other != r])
            lane.jobs.pop(r)
        else:
            if not job.paused:
                self._waiting.remove(job)
                heapq.heapify(self._waiting)
            if job.row is not None:
                walk.vacant.append(job.row.number)
        self._forget(job)

    def _forget(self, job: _Job) -> None:
        del self._jobs[job.number]
        job.lane.users -= 1
        if not job.lane.users:
            del self._lanes[job.asked.path]

    def _gone(self, lane: _Lane) -> None:
        """Forget the jobs whose rows have left their walk by themselves."""
        alive = {row.number for row in lane.walk.alive}
        for job in list(lane.jobs):
            assert job.row is not None
            if job.row.number not in alive:
                lane.jobs.remove(job)
                self._forget(job)

    # -- one move ----------------------------------------------------------------------------------------------------

    def _plan(self, lanes: list[_Lane]) -> list[_Piece]:
        """What every lane does in this move: which rows step, and which are given a piece of their prompt.

        Rows that decode always step; prompts are fed in the order in which they came, ``chunk`` tokens a move.
        """
        for lane in lanes:
            lane.walk.settle()
        room = self.chunk
        steps: dict[_Lane, list[_Job]] = {lane: [] for lane in lanes}
        fills: dict[_Lane, list[tuple[_Job, int]]] = {lane: [] for lane in lanes}
        for job in sorted(job for lane in lanes for job in lane.jobs):
            lane = job.lane
            if job not in lane.jobs:
                continue  # it had to give its memory back
            r = lane.jobs.index(job)
            walk = lane.walk
            todo = walk.ready(r) - lane.memory.lengths[r]
            near = walk.borders(r, 1) - lane.memory.lengths[r]  # the least that can be fed
            if todo <= near or todo <= room:
                if self._hold(job, walk.reach(r)):
                    steps[lane].append(job)
                    room -= todo if todo > near else 0
            elif room > 0:
                end = walk.borders(r, room)
                if self._hold(job, end):
                    fills[lane].append((job, end))
                    room -= end - lane.memory.lengths[r]
        pieces = []
        for lane in lanes:
            mine = {job: r for r, job in enumerate(lane.jobs)}
            chosen = [mine[job] for job in steps[lane] if job in mine]
            filled = [(mine[job], end) for job, end in fills[lane] if job in mine]
            if chosen or filled:
                pieces.append(_Piece(lane, sorted(chosen), sorted(filled)))
        return pieces

    def _hold(self, job: _Job, tokens: int) -> bool:
        """Make room for so many tokens of a row, at the cost of younger ones; whether it is still under way."""
        lane = job.lane
        while lane.memory.lacks(lane.jobs.index(job), tokens) > self.pool.available:
            others = [one for other in self._lanes.values() if not other.memory.stale for one in other.jobs]
            youngest = max(others)
            self._leave(youngest)
            if youngest is job:
                return False
        lane.memory.hold(lane.jobs.index(job), tokens)
        return True

    def _move(self, pieces: list[_Piece]) -> list[Event | Failure]:
        feeds: list[tuple[_Piece, Generator[Asked, Tensor, list[Event]] | None, Feed]] = []
        found: list[Event | Failure] = []
        for piece in pieces:
            walk = piece.lane.walk
            if piece.fills:
                rows = [r for r, _ in piece.fills]
                spans = [Span(piece.lane.memory.lengths[r], end, end) for r, end in piece.fills]
                feeds.append((piece, None, walk.feed(rows, spans, counts=False)))
            if piece.steps:
                step = walk.step(piece.steps)
                feeds.append((piece, step, _fed(next(step))))
        while feeds:  # again for rows that are guided
            given = [(piece.lane.memory, feed, piece.lane.walk.process.shown(feed.content)) for piece, _, feed in feeds]
            hidden = forward(self.network, self.pool, given)
            self._counts["forwards"] += 1
            asked: list[tuple[_Piece, Generator[Asked, Tensor, list[Event]], Head]] = []
            for (piece, stepping, _), answer in zip(feeds, hidden, strict=True):
                if stepping is None:
                    piece.lane.walk.commit([r for r, _ in piece.fills], [end for _, end in piece.fills])
                else:
                    head = stepping.send(answer)
                    assert isinstance(head, Head)
                    asked.append((piece, stepping, head))
            feeds = []
            said = heads(self.network, [head.hidden for _, _, head in asked]) if asked else []
            for (piece, stepping, head), prediction in zip(asked, said, strict=True):
                further = self._advance(piece, stepping, head, prediction)
                if isinstance(further, Feed):
                    feeds.append((piece, stepping, further))
                else:
                    found += further
        return found

    def _advance(
        self, piece: _Piece, step: Generator[Asked, Tensor, list[Event]], head: Head, prediction: Tensor
    ) -> list[Event | Failure] | Feed:
        """The rows of a lane take their step, or ask for one more forward first; those for which the model gave no
        numbers end here."""
        lane = piece.lane
        bad = ~torch.isfinite(prediction.sum(-1)).reshape(-1)
        if bad.any():
            prediction = prediction.nan_to_num(0.0, 0.0, 0.0)
            owners = [r for r, count in zip(head.rows, head.counts, strict=True) for _ in range(count)]
            for r in sorted({owners[i] for i in bad.nonzero()[:, 0].tolist()}):
                cause = "the model gave no numbers (NaN or infinite) for this request; check its weights"
                piece.failed[lane.jobs[r].number] = EngineError(cause)
        events: list[Event] = []
        try:
            return _fed(step.send(prediction))
        except StopIteration as done:
            events = done.value
        except SettingError as error:
            piece.failed.update({lane.jobs[r].number: error for r in piece.steps})
        self._counts["row_moves"] += len(piece.steps)
        lost, failed = set(piece.failed), [Failure(number, error) for number, error in piece.failed.items()]
        kept = [(event, self._jobs[event.row]) for event in events if event.row not in lost]
        events = [replace(event, cached=job.cached, waited=job.waited or 0.0) for event, job in kept]
        for event, (_, job) in zip(events, kept, strict=True):
            if event.clean:
                fresh = event.start + len(event.content) - max(event.start, len(job.asked.known))
                job.new += max(0, fresh)
                self._counts["tokens"] += max(0, fresh)
                self._counts["units"] += 1
        for number in lost:
            self._end(self._jobs[number])
        for event in events:
            if event.last:
                self._finish(self._jobs[event.row])
        return [*events, *failed]

    def _finish(self, job: _Job) -> None:
        """A row that has ended leaves its final pages for others to find."""
        self._name(job, job.lane.jobs.index(job))
        self._end(job)

    def _publish(self, lane: _Lane) -> None:
        for r, job in enumerate(lane.jobs):
            self._name(job, r)

    def _name(self, job: _Job, r: int) -> None:
        """Let others find the pages of a row that are final."""
        assert job.chain is not None
        memory = job.lane.memory
        if memory.lengths[r] // self.pool.size <= job.published:
            return
        pages = job.chain.whole(memory.lengths[r])
        for page, name in list(enumerate(job.chain.upto(pages)))[job.published :]:
            self.pool.publish(memory.tables[r][page], name)
        job.published = max(pages, job.published)


@dataclass
class _Piece:
    """What one lane does in a move: rows that step, and rows that are given their tokens up to some place."""

    lane: _Lane
    steps: list[int]
    fills: list[tuple[int, int]]
    failed: dict[int, Exception] = field(default_factory=dict)


def _fed(asked: Asked) -> Feed:
    assert isinstance(asked, Feed)
    return asked

