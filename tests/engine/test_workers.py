"""Engines in processes: whatever dies, every request ends with what a lone engine gives, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from interlace.constraints import regex
from interlace.engine import Engine, Failure, Request, Stream, Workers
from interlace.engine.child import reason
from interlace.engine.messages import error
from interlace.errors import BusyError, CheckpointError, EngineError, InterlaceError, SettingError
from interlace.generation import Event
from interlace.model import Model

from ..waiting import soon
from .tiny import model

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
import openings  # noqa: E402

DEADLY, BROKEN = 21, 22
Told = tuple[list[tuple[int, bool, list[int]]], list[float]]


@pytest.fixture(scope="module")
def made() -> Model:
    return model("sdar", block_size=4)


@pytest.fixture(scope="module")
def pair(made: Model) -> Iterator[Workers]:
    """Two processes, in which some requests are deadly."""
    workers = Workers(made, partial(openings.opened, 0.01, DEADLY, BROKEN, slots=1024, page=4), 2)
    yield workers
    workers.close()


def told(events: Sequence[Event]) -> Told:
    """All events in their order, and their log-probabilities to the bit."""
    log_probs = [value for event in events if event.log_prob is not None for value in event.log_prob.tolist()]
    return [(event.start, event.clean, event.content.tolist()) for event in events], log_probs


def lone(made: Model, requests: Sequence[Request]) -> list[Told]:
    """What every request gives in an engine of its own."""
    found = []
    for request in requests:
        engine, events = Engine(made, slots=1024, page=4), []
        engine.add(request)
        while engine.busy:
            for event in engine.step():
                assert not isinstance(event, Failure)
                events.append(event)
        found.append(told(events))
    return found


def some(count: int, seed: int, length: int = 40) -> list[Request]:
    rng = random.Random(seed)
    shared = tuple(rng.choices(range(5, 20), k=8))
    return [
        Request(
            (*shared[: rng.choice([0, 8])], *rng.choices(range(5, 20), k=rng.randint(1, 9))), length, seed=i, stop=(),
            settings={"temperature": rng.choice([0.0, 1.0])}, details=True, drafts=rng.random() < 0.3,
        )
        for i in range(count)
    ]  # fmt: skip


async def heard(stream: Stream, events: list[Event]) -> Exception | None:
    """Listen to the end; why it failed."""
    try:
        async for event in stream:
            events.append(event)
    except InterlaceError as error:
        return error
    return None


Meanwhile = Callable[[list[list[Event]]], Awaitable[None]]


def ask(
    workers: Workers, requests: Sequence[Request], meanwhile: Meanwhile | None = None
) -> tuple[list[Told], list[Exception | None]]:
    """All at once; what they give, and why they fail."""
    events: list[list[Event]] = [[] for _ in requests]

    async def go() -> list[Exception | None]:
        streams = [workers.submit(request) for request in requests]
        waiting = [heard(stream, mine) for stream, mine in zip(streams, events, strict=True)]
        if meanwhile is None:
            return await asyncio.gather(*waiting)
        return (await asyncio.gather(meanwhile(events), *waiting))[1:]

    problems = asyncio.run(asyncio.wait_for(go(), 100))
    assert workers.pending == 0
    return [told(one) for one in events], problems


def ready(workers: Workers) -> None:
    asyncio.run(soon(lambda: workers.up == workers.count))


def pids(workers: Workers) -> list[int]:
    found = [one.process.pid for one in workers._workers if one.process is not None]
    return [pid for pid in found if pid is not None]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_same_as_a_lone_engine(pair: Workers, made: Model) -> None:
    plain = [*some(10, 0), Request((5, 6, 7), 8, constraint=regex("[0-9]{3}=[0-9]{2}"), bias={9: 1.0}, details=True)]
    plain.append(Request((5, 6, 7, 8), 8, places=torch.arange(12).flip(0), top=2, details=True))
    before = pair.stats()
    found, problems = ask(pair, plain)
    after = pair.stats()
    assert problems == [None] * 12 and found == lone(made, plain)
    asked = sum(len(request.prompt) for request in plain)
    assert after.prompt_tokens - before.prompt_tokens == asked
    assert after.tokens - before.tokens == sum(request.length for request in plain)
    assert (after.running, after.waiting, after.slots_used, after.slots) == (0, 0, 0, 2048)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_process_is_killed_under_load(pair: Workers, made: Model, seed: int) -> None:
    """One of two, and then the other: no event is lost, doubled or different."""
    ready(pair)
    requests, rng, before = some(12, seed), random.Random(seed), pair.stats()

    async def meanwhile(events: list[list[Event]]) -> None:
        first, second = rng.sample(pids(pair), 2)
        after = rng.randint(1, 20)
        await soon(lambda: sum(map(len, events)) >= after)
        os.kill(first, signal.SIGKILL)
        await soon(lambda: pair.up == 1)
        assert pair.alive
        await soon(lambda: sum(map(len, events)) >= after + 20)
        os.kill(second, signal.SIGKILL)

    found, problems = ask(pair, requests, meanwhile)
    assert problems == [None] * 12 and found == lone(made, requests)
    after = pair.stats()  # counts go on, and what is done twice counts twice
    assert after.tokens - before.tokens > 12 * 40 and (after.running, after.waiting) == (0, 0)


def test_the_only_process_is_killed(made: Model) -> None:
    """Requests that come while it is started again wait for it; a stopped process cannot hold up the end."""
    workers = Workers(made, partial(openings.opened, 0.01, slots=1024, page=4))
    try:
        requests = some(6, 3)
        streams: list[tuple[Stream, list[Event]]] = []

        async def meanwhile(events: list[list[Event]]) -> None:
            await soon(lambda: sum(map(len, events)) >= 10)
            os.kill(pids(workers)[0], signal.SIGKILL)
            await soon(lambda: not workers.alive)
            late: list[Event] = []
            streams.append((workers.submit(requests[0]), late))
            assert await heard(*streams[0]) is None

        found, problems = ask(workers, requests, meanwhile)
        expected = lone(made, requests)
        assert problems == [None] * 6 and found == expected and told(streams[0][1]) == expected[0]
    finally:
        left = pids(workers)
        workers.close()
    assert left and not any(map(running, left))

    async def late() -> None:
        workers.submit(requests[0])

    with pytest.raises(EngineError, match="the engine is closed"):
        asyncio.run(late())


@pytest.mark.parametrize("token", [DEADLY, pytest.param(BROKEN, marks=pytest.mark.slow)])
def test_a_request_that_ends_processes(pair: Workers, made: Model, token: int) -> None:
    """It fails, alone: the others go on, wherever they were."""
    ready(pair)
    healthy = some(6, 5, 60)
    found, problems = ask(pair, [Request((5, token), 40, stop=()), *healthy])
    assert isinstance(problems[0], EngineError)
    assert str(problems[0]) == (
        "the processes that worked on this request ended, one after the other; change it, and see the log"
    )
    assert problems[1:] == [None] * 6 and found[1:] == lone(made, healthy)


def test_other_tokens_for_the_same_seed(pair: Workers) -> None:
    """What a stream was given is compared with what is done again."""
    ready(pair)

    async def meanwhile(events: list[list[Event]]) -> None:
        await soon(lambda: len(events[0]) >= 2)
        (job,) = pair._jobs.values()
        job.replay._told[0] = b"another"
        assert job.worker is not None and job.worker.process is not None and job.worker.process.pid is not None
        os.kill(job.worker.process.pid, signal.SIGKILL)

    _, (problem,) = ask(pair, some(1, 6), meanwhile)
    assert str(problem) == "a process of the engine ended, and another gave other tokens for the same seed; ask again"


def test_cancelled_requests_leave(pair: Workers, made: Model) -> None:
    ready(pair)
    requests = some(8, 7, 120)

    async def go() -> None:
        streams = [pair.submit(request) for request in requests]
        kept: list[Event] = []
        await anext(streams[0])
        for stream in streams[1:]:
            stream.cancel()
            stream.cancel()
        assert pair.pending == 1
        assert await heard(streams[1], []) is None
        assert not await pair.drain(0.0)
        assert await heard(streams[0], kept) is None
        assert kept[-1].last and await pair.drain(1.0)
        await soon(lambda: pair.stats().running == 0 == pair.stats().slots_used)

    asyncio.run(go())


def test_requests_go_where_their_prompt_is(pair: Workers) -> None:
    """And to the other process, as soon as that one has more than its share."""
    ready(pair)

    async def go() -> None:
        seen = []
        for _ in range(3):
            stream = pair.submit(Request((5, 6, 7, 8, 9), 4))
            seen.append(pair._jobs[stream].worker)
            assert await heard(stream, []) is None
        assert len(set(seen)) == 1
        many = [pair.submit(Request((5, 6, 7, 8, 9 + i), 4)) for i in range(8)]
        load = [len(one.jobs) for one in pair._workers]
        assert max(load) <= 5
        for stream in many:
            assert await heard(stream, []) is None

    asyncio.run(go())


def test_what_is_refused(pair: Workers) -> None:
    async def go() -> None:
        with pytest.raises(SettingError, match="exceed the model's 192 positions"):
            pair.submit(Request((5,) * 100, 100))
        small, pair.slots = pair.slots, 64
        with pytest.raises(SettingError, match="the request needs 112 tokens of memory, the engine has 64"):
            pair.submit(Request((5,) * 50, 60))
        pair.slots = small
        most, pair._most = pair._most, 0
        with pytest.raises(BusyError, match="come again later"):
            pair.submit(Request((5,), 4))
        pair._most = most

    asyncio.run(go())


def test_a_process_that_cannot_begin(made: Model) -> None:
    """One error, and nothing is left."""
    for opening, kind, message in (
        (openings.damaged, CheckpointError, "model.safetensors is cut short; download it again"),
        (openings.killed, EngineError, "a process of the engine was ended by SIGKILL while it opened the model"),
    ):
        with pytest.raises(kind, match=message):
            Workers(made, opening)
    with pytest.raises(SettingError, match="the number of workers is 0; pass 1 or more"):
        Workers(made, openings.damaged, 0)


def test_why_a_process_cannot_begin() -> None:
    for opening, message in (
        (openings.large, "there is not enough memory for the model and its engine; pass fewer workers, or fewer slots"),
        (openings.unable, "the engine could not begin (ZeroDivisionError: nothing); see its traceback"),
    ):
        with pytest.raises(Exception) as problem:
            opening()
        assert str(error(reason(problem.value))) == message


PARENT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import openings
from interlace.engine import Workers
if __name__ == "__main__":
    workers = Workers(openings.model("sdar", block_size=4), openings.opened)
    print(workers._workers[0].process.pid, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["killed", "forgotten"])
def test_no_process_outlives_its_parent(tmp_path: Path, how: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    done = subprocess.run([sys.executable, str(script), HERE, how], capture_output=True, text=True, timeout=100)
    assert done.returncode == (-signal.SIGKILL if how == "killed" else 0), done.stderr
    pid = int(done.stdout)
    asyncio.run(soon(lambda: not running(pid)))


def test_a_stream_that_nobody_reads_is_paused(pair: Workers, made: Model) -> None:
    """In its process, and in the one that has it when that is killed; others end meanwhile."""
    ready(pair)
    slow, *others = some(5, 11)
    slow = replace(slow, drafts=False)

    async def go() -> list[Event]:
        stream, before = pair.submit(slow, ahead=4), pair.stats()
        await soon(lambda: pair.stats().paused == 1)
        assert pair.stats().units - before.units == 4 == stream.allowed
        worker = pair._jobs[stream].worker
        assert worker is not None and worker.process is not None and worker.process.pid is not None
        os.kill(worker.process.pid, signal.SIGKILL)
        await soon(lambda: pair.up == 1)
        problems = await asyncio.gather(*(heard(pair.submit(one), []) for one in others))
        assert problems == [None] * 4
        await soon(lambda: pair.stats().paused == 1)
        read: list[Event] = []
        assert await heard(stream, read) is None
        left = pair.submit(slow, ahead=1)
        await soon(lambda: pair.stats().paused == 1)
        left.cancel()
        await soon(lambda: pair.stats().paused == 0 == pair.pending)
        return read

    assert told(asyncio.run(asyncio.wait_for(go(), 100))) == lone(made, [slow])[0]
