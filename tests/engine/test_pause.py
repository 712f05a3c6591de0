"""A request that is paused and goes on gives what it gives in one go, and keeps nobody waiting meanwhile."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from interlace.engine import Engine, Failure, Request, Service, Stats
from interlace.engine.driver import Driver
from interlace.errors import SettingError
from interlace.generation import Event
from interlace.model import Model

from ..waiting import soon
from .test_engine import IDS, drive, generated, some, text
from .tiny import SYSTEMS, model


def halting(engine: Engine, requests: list[Request], rng: random.Random) -> tuple[dict[int, list[Event]], int]:
    """Every request's events, when they come, are paused and go on at random; how many moves were made by rows that
    were paused (to finish a unit)."""
    found: dict[int, list[Event]] = {number: [] for number in range(len(requests))}
    names: dict[int, int] = {}
    live: set[int] = set()
    paused: set[int] = set()
    late = 0
    while len(names) < len(requests) or live:
        if len(names) < len(requests) and rng.random() < 0.4:
            number = engine.add(requests[len(names)])
            names[number] = len(names)
            live.add(number)
        for number in sorted(live):
            if number in paused and rng.random() < 0.3:
                engine.resume(number)
                paused.discard(number)
            elif number not in paused and rng.random() < 0.2:
                engine.pause(number)
                paused.add(number)
        for event in engine.step():
            assert not isinstance(event, Failure), event
            found[names[event.row]].append(event)
            late += event.row in paused
            if event.last:
                live.discard(event.row)
                paused.discard(event.row)
        stats = engine.stats()
        assert stats.running + stats.waiting + stats.paused == len(live) and stats.paused <= len(paused)
        assert engine.busy == (stats.running + stats.waiting > 0)
    assert engine.pool.used == 0 and not engine.busy
    return found, late


@pytest.mark.parametrize(("system", "changes"), SYSTEMS, ids=IDS)
def test_the_same_however_often_it_is_paused(system: str, changes: dict[str, Any]) -> None:
    """Tokens, forwards and log-probabilities to the bit; a row reads stale keys only of the unit that it finishes."""
    made, rng = model(system, **changes), random.Random(system)
    requests = some(made, 5, rng)
    alone = [text(drive(Engine(made), [request])[0]) for request in requests]
    for slots, rows, chunk in ((4096, 64, 256), (144, 3, 8)):
        engine = Engine(made, slots, 8, rows, chunk=chunk)
        found, late = halting(engine, requests, rng)
        assert [text(events) for events in found.values()] == alone
        assert late == 0 or "cache" in changes or "sub_block_cache" in changes
    for request, expected in zip(requests, alone, strict=True):
        assert generated(made, request)[:2] == expected[:2]


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 200))])
def test_random_pauses_in_random_mixes(seed: int) -> None:
    rng = random.Random(seed)
    name, changes = rng.choice(SYSTEMS)
    made = model(name, seed, 1, **changes)
    others = [name, "ar", "sdar", "tidar", "wedlm"]
    requests = [
        replace(request, system=None if (other := rng.choice(others)) == name else other, drafts=rng.random() < 0.3)
        for request in some(made, 8, rng)
    ]
    alone = [text(drive(Engine(made, page=4), [request])[0]) for request in requests]
    sizes = rng.randint(120, 400), rng.choice([4, 8, 16]), rng.randint(1, 8)
    found, _ = halting(Engine(made, *sizes, chunk=rng.randint(4, 64)), requests, rng)
    assert [text(events) for events in found.values()] == alone


def begun(made: Model, request: Request, units: int, **sizes: int) -> tuple[Engine, int, list[Event]]:
    """An engine with a request that has given so many units and is paused."""
    engine, events = Engine(made, **sizes), []
    number = engine.add(request)
    while len(events) < units:
        events += engine.step()
    engine.pause(number)
    return engine, number, [event for event in events if isinstance(event, Event)]


def rest(engine: Engine, number: int) -> list[Event]:
    found: list[Event] = []
    while engine.busy:
        found += [event for event in engine.step() if isinstance(event, Event) and event.row == number]
    return found


def test_others_take_its_place_and_its_memory() -> None:
    """In an engine with room for one row alone: the paused one is no hindrance, and finds its way back."""
    made = model("sdar", block_size=4)
    request = Request(tuple(5 + i % 9 for i in range(30)), 24, stop=(), details=True, seed=3)
    expected = drive(Engine(made, page=8), [request])[0]
    engine, number, before = begun(made, request, 3, slots=64, page=8, rows=1)
    assert (engine.busy, engine.step(), engine.pool.used) == (False, [], 0)
    assert (engine.stats().running, engine.stats().waiting, engine.stats().paused) == (0, 0, 1)
    other = Request(tuple(6 + i % 7 for i in range(30)), 24, stop=(), details=True)
    mine = engine.add(other)
    assert text(rest(engine, mine)) == text(drive(Engine(made, page=8), [other])[0])  # which needs all of the memory
    assert engine.stats().paused == 1 and engine.stats().preemptions == 0
    engine.resume(number)
    after = rest(engine, number)
    assert text([*before, *after]) == text(expected)
    assert after[-1].slots >= expected[-1].slots + 24, "its prompt was meant to be computed again"
    assert engine.stats().paused == 0 == engine.pool.used


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ("llada", {"block_size": 4, "cache": "prefix"}),
        ("llada", {"block_size": 4, "cache": "dual"}),
        ("fast-dllm-v2", {"block_size": 8, "sub_block_size": 4, "sub_block_cache": True}),
    ],
    ids=["prefix", "dual", "sub-block"],
)
def test_stale_keys_are_kept_until_their_block_is_clean(system: str, changes: dict[str, Any]) -> None:
    """A token a move, and a pause after every one of them, which is in force only where nothing is under way."""
    made = model(system, threshold=1.0, **changes)
    request = Request((5, 6, 7), 17, stop=(), details=True, drafts=True)
    engine, events, waits = Engine(made), [], []
    number = engine.add(request)
    while engine.busy:
        events += [event for event in engine.step() if isinstance(event, Event)]
        engine.pause(number)
        waits.append(engine.stats().paused)
        assert engine.pool.used == 0 or not waits[-1]
        engine.resume(number)
    assert text(events) == text(drive(Engine(made), [replace(request, drafts=False)])[0])
    assert 3 <= sum(waits) < len(waits) / 2


def test_what_nobody_took_is_found_again() -> None:
    made = model("ar")
    request = Request(tuple(5 + i % 9 for i in range(64)), 12, stop=(), details=True)
    expected = drive(Engine(made, page=8), [request])[0]
    engine, number, before = begun(made, request, 4, page=8)
    engine.resume(number)
    after = rest(engine, number)
    assert text([*before, *after]) == text(expected)
    assert after[-1].slots - expected[-1].slots < 8, "less than a page was computed again"


def test_it_goes_on_before_those_who_came_later() -> None:
    engine = Engine(model("ar"), rows=1)
    first, second, third = (engine.add(Request((5, 6, 7), 4, stop=())) for _ in range(3))
    engine.pause(second)  # which waits: it holds up nobody behind it
    engine.step()
    engine.pause(first)
    seen = [event.row for event in engine.step() if isinstance(event, Event)]
    assert seen == [third]
    engine.resume(first)
    engine.resume(first)
    engine.resume(second)
    order: list[int] = []
    while engine.busy:
        order += [event.row for event in engine.step() if isinstance(event, Event)]
    assert order == [third] * 3 + [first] * 3 + [second] * 4


@pytest.mark.parametrize("changes", [{}, {"cache": "dual"}], ids=["exact", "stale"])
def test_it_is_cancelled_as_any_other(changes: dict[str, Any]) -> None:
    made = model("llada", block_size=4, threshold=2.0, **changes) if changes else model("sdar", block_size=4)
    request = Request((5, 6, 7), 40, stop=(), drafts=True)
    engine, number, _ = begun(made, request, 2)
    waits = engine.add(request)
    engine.pause(waits)
    stale = bool(changes)  # it is in the middle of a unit
    assert (engine.stats().running, engine.stats().paused) == ((1, 1) if stale else (0, 2))
    for one in (number, waits, waits):
        engine.cancel(one)
        engine.pause(one)
        engine.resume(one)
    assert engine.stats() == replace(engine.stats(), running=0, waiting=0, paused=0, slots_used=0)
    assert not engine.busy and not engine._lanes


@pytest.mark.parametrize("drafts", [False, True])
@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_a_stream_that_nobody_reads_is_paused(ahead: int, drafts: bool) -> None:
    """Of a request whose moves give one event each, so many are made and no more, however slowly they are read."""
    made = model("sdar", block_size=4)
    request = Request((5, 6, 7, 8), 40, stop=(), details=True, drafts=drafts)
    engine = Engine(made)
    moves: list[int] = []
    plain = engine.step

    def step() -> list[Event | Failure]:
        found = plain()
        moves.append(sum(isinstance(one, Event) for one in found))
        return found

    engine.step = step  # type: ignore[method-assign]
    service = Service(engine)

    async def go() -> list[Event]:
        stream = service.submit(request, ahead=ahead)
        read: list[Event] = []
        while not read or not read[-1].last:
            await soon(lambda: service.stats().paused == 1 or service.pending == 0)
            made_ahead = sum(moves) - max(0, len(read) - 1)  # the one that was read last is still being worked on
            assert made_ahead <= ahead
            assert read or made_ahead == ahead
            read.append(await anext(stream))
        return read

    try:
        assert text(asyncio.run(go())) == text(drive(Engine(made), [replace(request, drafts=False)])[0])
        with pytest.raises(SettingError, match="ahead is 0; pass 1 or more"):
            asyncio.run(refused(service, request))
    finally:
        service.close()


async def refused(service: Service, request: Request) -> None:
    service.submit(request, ahead=0)


def test_the_engine_of_a_paused_stream_does_nothing() -> None:
    """And what is asked meanwhile is done; a stream that is left frees what it had."""
    made = model("sdar", block_size=4)
    service = Service(Engine(made))

    async def go() -> None:
        slow = service.submit(Request((5, 6, 7), 40, stop=()), ahead=2)
        await soon(lambda: service.stats().paused == 1)
        before: Stats = service.stats()
        assert before.units == 2
        quick = [event async for event in service.submit(Request((5, 6, 7), 8, stop=()))]
        assert quick[-1].last
        await soon(lambda: service.stats().tokens == before.tokens + 8)
        assert service.stats().paused == 1
        slow.cancel()
        await soon(lambda: service.stats().paused == 0)
        assert [event async for event in slow][-1].unit == 1  # what had come can be read

    try:
        asyncio.run(go())
    finally:
        service.close()


def test_an_allowance_that_comes_late_takes_nothing_back() -> None:
    made = model("ar")
    found: list[Any] = []
    driver = Driver(Engine(made, page=4), lambda told, stats: found.extend(told))
    driver.add("one", driver.engine.prepare(Request((5, 6, 7), 12, stop=())), 2)
    driver.allow("one", 12)
    driver.allow("one", 8)
    thread = threading.Thread(target=driver.run)
    thread.start()
    until = time.monotonic() + 60
    while not any(what.last for _, what in found) and time.monotonic() < until:
        time.sleep(0.01)
    driver.close()
    thread.join()
    assert len(found) == 12 and found[-1][1].last
