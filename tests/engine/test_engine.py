"""An engine gives every request what it gives alone, in whatever company, order and memory."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from interlace.constraints import regex
from interlace.engine import Engine, Failure, Request
from interlace.errors import BusyError, SettingError
from interlace.generation import OPEN, Event
from interlace.model import Model

from .tiny import SYSTEMS, model

IDS = [f"{name}-{'-'.join(map(str, changes.values()))}" for name, changes in SYSTEMS]


def text(events: Sequence[Event]) -> tuple[list[int], list[int], list[float]]:
    """Tokens, forwards of every unit, and log-probabilities, bit for bit."""
    clean = sorted((event for event in events if event.clean), key=lambda event: event.start)
    tokens = [token for event in clean for token in event.content.tolist()]
    log_probs = [value for event in clean if event.log_prob is not None for value in event.log_prob.tolist()]
    return tokens, [event.forwards for event in clean], log_probs


def drive(
    engine: Engine, requests: Sequence[Request], arrives: Callable[[], bool] = lambda: True
) -> dict[int, list[Event]]:
    """Every request's events; a further one is added before a move while ``arrives`` says so."""
    found: dict[int, list[Event]] = {number: [] for number in range(len(requests))}
    names: dict[int, int] = {}
    while len(names) < len(requests) or engine.busy:
        while len(names) < len(requests) and arrives():
            names[engine.add(requests[len(names)])] = len(names)
        for event in engine.step():
            assert not isinstance(event, Failure), event
            found[names[event.row]].append(event)
    assert engine.pool.used == 0 and all(events[-1].last for events in found.values())
    return found


def generated(made: Model, request: Request) -> tuple[list[int], list[int], list[float]]:
    """The same by ``generate``, which knows no pages."""
    options: dict[str, Any] = {} if request.stop is None else {"stop": request.stop}
    if request.constraint is not None:
        options["constraints"] = [request.constraint]
    stream = made.with_(**request.settings).stream(
        [request.prompt], request.length, seed=request.seed, details=request.details, **options
    )
    return text(list(stream))


def some(made: Model, count: int, rng: random.Random, longest: int = 40) -> list[Request]:
    requests = []
    vocabulary = made.checkpoint.config.vocab_size
    common = [rng.randrange(5, vocabulary) for _ in range(longest)]
    for _ in range(count):
        shared, own = rng.choice([0, 0, 17, 33]), rng.randint(1, 9)
        prompt = common[:shared] + [rng.randrange(5, vocabulary) for _ in range(own)]
        settings = {"temperature": rng.choice([0.0, 0.0, 1.0])}
        stop = rng.choice([None, (), (7, 9)])
        request = Request(
            tuple(prompt), 8 * rng.randint(1, 3), settings=settings, seed=rng.randrange(99), stop=stop, details=True
        )
        requests.append(request)
    return requests


@pytest.mark.parametrize(("system", "changes"), SYSTEMS, ids=IDS)
def test_the_same_alone_in_any_mix_and_by_generate(system: str, changes: dict[str, Any]) -> None:
    """Tokens, forwards and log-probabilities to the bit, with more or less memory, rows and room for prompts."""
    made, rng = model(system, **changes), random.Random(system)
    requests = some(made, 8, rng)
    alone = [text(drive(Engine(made), [request])[0]) for request in requests]
    preempted = 0
    for slots, rows, chunk in ((4096, 64, 256), (4096, 3, 16), (176, 8, 24), (112, 8, 8)):
        engine = Engine(made, slots=slots, page=8, rows=rows, chunk=chunk)
        mixed = drive(engine, requests, lambda: rng.random() < 0.5)
        assert [text(events) for events in mixed.values()] == alone
        preempted += engine.stats().preemptions
    assert preempted or system not in ("ar", "sdar", "wedlm"), "the small memory was meant to be too small"
    for request, expected in zip(requests, alone, strict=True):
        tokens, forwards, log_probs = generated(made, request)
        assert (tokens, forwards) == expected[:2]
        assert log_probs == pytest.approx(expected[2], abs=2e-4)


REVEALS = (
    "static", "least-uncertain", "largest-margin", "dynamic", "threshold", "sequential", "leading", "entropy-bounded",
    "dependence-bounded", "ancestral",
)  # fmt: skip
EXPRESSIONS = ("[0-9]{3}=[0-9]{2}", "([0-9]+[+*-])*[0-9]+", "(1|23)*=?", "[^0-9]{2,8}")
Change = Callable[[Model, Request, random.Random], Request]


def setting(name: str, *values: Any) -> Change:
    return lambda made, request, rng: replace(request, settings={**request.settings, name: rng.choice(values)})


def held(made: Model, request: Request, rng: random.Random) -> Request:
    return replace(request, constraint=regex(rng.choice(EXPRESSIONS)))


def biased(made: Model, request: Request, rng: random.Random) -> Request:
    tokens = rng.sample(range(made.checkpoint.config.vocab_size), rng.randint(1, 4))
    return replace(request, bias={token: rng.choice([-100.0, -1.5, 0.5, 3.0]) for token in tokens})


def holed(made: Model, request: Request, rng: random.Random) -> Request:
    """Some of the prompt is open."""
    prompt = list(request.prompt)
    for place in rng.sample(range(len(prompt)), rng.randint(1, min(6, len(prompt)))):
        prompt[place] = OPEN
    return replace(request, prompt=tuple(prompt), length=rng.choice([0, request.length]))


def moved(made: Model, request: Request, rng: random.Random) -> Request:
    """Tokens lie elsewhere than they are read: a suffix first, or all of them anywhere."""
    layout = (made if request.system is None else made.under(request.system)).with_(**request.settings).parts.layout
    total = layout.units(len(request.prompt) + request.length) * layout.size
    near = rng.randint(0, total)
    places = [*range(near, total), *range(near)] if rng.random() < 0.7 else rng.sample(range(total), total)
    return replace(request, places=torch.tensor(places))


CHANGES: dict[str, Change] = {
    "top_k": setting("top_k", 0, 3),
    "reveal": setting("reveal", *REVEALS),
    "steps": setting("steps", 1, 2, 3, 5),
    "threshold": setting("threshold", 0.0, 0.1, 0.5, 0.95, 1.0),
    "order_temperature": setting("order_temperature", 0.2, 1.0),
    "drafts": lambda made, request, rng: replace(request, drafts=True),
    "constraint": held,
    "bias": biased,
    "holes": holed,
    "places": moved,
    "top": lambda made, request, rng: replace(request, top=rng.randint(1, 3)),
}


def mix(seed: int) -> tuple[Model, Engine, list[Request], set[str], random.Random]:
    """A model, an engine of random sizes, 12 requests that it takes, and what of ``CHANGES`` they have drawn."""
    rng = random.Random(seed)
    name, changes = SYSTEMS[seed % len(SYSTEMS)]
    made = model(name, seed, 1, dtype=rng.choice([torch.float32, torch.float32, torch.bfloat16]), **changes)
    requests = some(made, 12, rng)
    others = [other for other in ("ar", "sdar", "tidar", "wedlm") if rng.random() < 0.5]
    if others:
        requests = [
            replace(request, system=rng.choice(others)) if rng.random() < 0.4 else request for request in requests
        ]
    engine = Engine(made, rng.randint(120, 400), rng.choice([4, 8, 16]), rng.randint(1, 12), chunk=rng.randint(4, 64))
    drawn = set()
    for number in range(len(requests)):
        words = list(CHANGES)
        if number and rng.random() < 0.5:  # one of the same walk, or of nearly the same
            like, words = rng.choice(requests[:number]), ["constraint", "bias", "holes", "places"]
            requests[number] = replace(
                requests[number], system=like.system, settings=like.settings, drafts=like.drafts, top=like.top
            )
        for word in words:
            if rng.random() < 0.3:
                try:
                    engine.prepare(changed := CHANGES[word](made, requests[number], rng))
                except SettingError:  # not with this system, or not with what was drawn before
                    continue
                requests[number] = changed
                drawn.add(word)
    return made, engine, requests, drawn, rng


def everything(events: Sequence[Event]) -> list[Any]:
    """All that a row was told, drafts and alternatives too, bit for bit."""
    return [
        (
            event.start, event.clean, event.forwards, event.last,
            *(one if one is None else one.numpy().tobytes() for one in (event.content, event.log_prob, event.order)),
            *(one.numpy().tobytes() for one in event.top or ()),
        )
        for event in events
    ]  # fmt: skip


@pytest.mark.parametrize("seed", [*range(14), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(14, 400))])
def test_random_mixes(seed: int) -> None:
    """Mixes of 12 requests of four systems' paths on the same weights, in engines of random sizes."""
    made, engine, requests, _, rng = mix(seed)
    alone = [everything(drive(Engine(made, page=4), [request])[0]) for request in requests]
    mixed = drive(engine, requests, lambda: rng.random() < 0.4)
    for request, events, expected in zip(requests, mixed.values(), alone, strict=True):
        assert everything(events) == expected, request


def test_mixes_draw_all_that_can_be_asked() -> None:
    mixes = [mix(seed) for seed in range(14)]
    assert set().union(*(drawn for *_, drawn, _ in mixes)) == set(CHANGES)
    assert {made.network.embed.weight.dtype for made, *_ in mixes} == {torch.float32, torch.bfloat16}


def test_a_shared_prompt_is_computed_once() -> None:
    made = model("sdar", block_size=4)
    prompt = tuple(random.Random(0).choices(range(5, 20), k=90))
    engine = Engine(made, page=8)
    first = drive(engine, [Request(prompt, 8, details=True)])[0]
    again = drive(engine, [Request(prompt, 8, details=True)])[0]
    stats = engine.stats()
    assert text(first) == text(again)
    assert stats.cached_tokens == 88 and stats.prompt_tokens == 180
    assert first[-1].slots - again[-1].slots == 88
    longer = drive(engine, [Request((*prompt[:50], 5, 6, 7), 8)])[0]
    assert engine.stats().cached_tokens - stats.cached_tokens == 48
    assert text(longer)[0] == generated(made, Request((*prompt[:50], 5, 6, 7), 8))[0]


def test_blocks_that_were_generated_are_found_by_the_next_turn() -> None:
    made = model("sdar", block_size=4)
    prompt = tuple(range(5, 13))
    engine = Engine(made, page=4)
    tokens = text(drive(engine, [Request(prompt, 16, stop=())])[0])[0]
    before = engine.stats().cached_tokens
    drive(engine, [Request((*prompt, *tokens, 5, 6), 8)])
    assert engine.stats().cached_tokens - before == len(prompt) + 12  # the last block was never committed


def test_rows_of_other_patterns_and_places_share_nothing() -> None:
    made = model("sdar", block_size=4)
    prompt = tuple(range(5, 21))
    engine = Engine(made, page=4)
    drive(engine, [Request(prompt, 4)])
    for other in (Request(prompt, 4, system="ar"), Request(prompt, 4, places=torch.arange(20).flip(0))):
        before = engine.stats().cached_tokens
        drive(engine, [other])
        assert engine.stats().cached_tokens == before
    drive(engine, [Request(prompt, 4, settings={"threshold": 0.1})])
    assert engine.stats().cached_tokens > 0


def test_pages_of_the_past_give_way_to_rows() -> None:
    """Every prompt leaves its pages behind, and none is refused for that."""
    made = model("ar")
    engine = Engine(made, slots=64, page=8)
    for start in range(6):
        drive(engine, [Request(tuple(5 + (start + i) % 14 for i in range(40)), 8)])
    assert engine.pool.available == 8


def test_a_long_prompt_does_not_hold_up_others() -> None:
    """While a prompt of 150 tokens is fed, a row that decodes gets its token in every move."""
    engine = Engine(model("ar"), chunk=16)
    quick = engine.add(Request((5, 6, 7), 30, stop=()))
    engine.step()
    slow = engine.add(Request(tuple(5 + i % 9 for i in range(150)), 4, stop=()))
    for _ in range(9):
        assert [event.row for event in engine.step()] == [quick]  # type: ignore[union-attr]
    rows = [event.row for event in engine.step()]  # type: ignore[union-attr]
    assert sorted(rows) == [quick, slow]


def test_a_request_that_is_cancelled_leaves_at_once() -> None:
    engine = Engine(model("sdar", block_size=4), rows=2)
    numbers = [engine.add(Request((5, 6, 7, 8 + i), 40, stop=())) for i in range(4)]
    engine.step()
    used = engine.pool.used
    assert engine.stats().running == 2 and engine.stats().waiting == 2
    engine.cancel(numbers[0])
    assert engine.pool.used < used and engine.stats().running == 1
    engine.cancel(numbers[3])  # it has not begun
    engine.cancel(numbers[3])
    seen: set[int] = set()
    while engine.busy:
        seen |= {event.row for event in engine.step()}  # type: ignore[union-attr]
    assert seen == set(numbers[1:3]) and engine.pool.used == 0


@pytest.mark.parametrize(("system", "changes"), [("sdar", {}), ("llada", {"guidance": 1.7})])
def test_a_row_without_numbers_fails_alone(system: str, changes: dict[str, Any]) -> None:
    """Guided, it has none in the first of two forwards: the other rows of both go on."""
    made = model(system, block_size=4, **changes)
    healthy = [Request((5, 6, 7 + i), 12, details=True, stop=()) for i in range(3)]
    banned = {"bias": {19: -100.0}}
    expected = [text(drive(Engine(made), [replace(one, **banned)])[0]) for one in healthy]
    made.network.embed.weight.data[19] = float("nan")
    engine = Engine(made)
    numbers = [engine.add(replace(one, **banned)) for one in healthy[:2]]
    sick = engine.add(Request((5, 19, 7), 12))
    numbers.append(engine.add(replace(healthy[2], **banned)))
    found: dict[int, list[Event]] = {number: [] for number in numbers}
    failures = []
    while engine.busy:
        for event in engine.step():
            if isinstance(event, Failure):
                failures.append(event)
            else:
                found[event.row].append(event)
    assert [failure.request for failure in failures] == [sick]
    assert str(failures[0].error) == (
        "the model gave no numbers (NaN or infinite) for this request; check its weights"
    )
    assert [text(events) for events in found.values()] == expected and engine.pool.used == 0


def test_constraints_and_infilling() -> None:
    made = model("sdar", block_size=4)
    held = Request((5, 6, 7), 8, constraint=regex("[0-9]{3}=[0-9]{2}"), details=True)
    gap = Request((5, 6, OPEN, OPEN, 7, OPEN), 0, stop=(), details=True)
    free = Request((5, 6, 7), 8, details=True)
    mixed = drive(Engine(made), [held, gap, free])
    for request, events in zip((held, gap, free), mixed.values(), strict=True):
        assert text(events)[:2] == generated(made, request)[:2]
    written = [token for token in text(mixed[0])[0][3:] if token not in made.checkpoint.stop_token_ids]
    assert re.fullmatch("[0-9]{3}=[0-9]{2}", made.text(written))


def test_bias_and_alternatives() -> None:
    for system, changes in (("ar", {}), ("sdar", {"block_size": 4}), ("tidar", {"block_size": 3})):
        made = model(system, **changes)
        plain = Request((5, 6, 7), 12, stop=(), details=True, top=3)
        events = drive(Engine(made), [plain])[0]
        tokens, _, log_probs = text(events)
        clean = sorted((event for event in events if event.clean), key=lambda event: event.start)
        skip = len(plain.prompt) - clean[0].start
        tops = [event.top for event in clean]
        ids, values = (torch.cat([top[i] for top in tops if top is not None])[skip:] for i in (0, 1))
        assert ids.shape == (12, 3) and (values[:, 0] >= values[:, 1]).all()
        assert ids[:, 0].tolist() == tokens[skip:]  # greedy: the token is the likeliest
        assert values[:, 0].tolist() == pytest.approx(log_probs[skip:], abs=1e-6)
        banned = tokens[skip]
        changed = text(drive(Engine(made), [replace(plain, bias={banned: -100.0})])[0])[0]
        assert banned not in changed[skip:]
        forced = text(drive(Engine(made), [replace(plain, bias={9: 100.0})])[0])[0]
        assert forced[skip:] == [9] * 12


def test_what_cannot_be_generated_is_refused_at_once() -> None:
    made = model("sdar", block_size=4)
    engine = Engine(made, slots=64, page=8, waiting=2)
    for request, message in (
        (Request((5,), -1), "the length is -1; pass 0 or more"),
        (Request((5, 99999), 4), "token id 99999 is outside"),
        (Request((5,) * 50, 60), r"the request needs 112 tokens of memory, the engine has 64; shorten it"),
        (Request((5,) * 100, 100), "exceed the model's 192 positions"),
        (Request((5,), 4, settings={"threshold": -1}), "threshold"),
        (Request((5,), 4, settings={"colour": 1}), "unknown setting 'colour'"),
        (Request((5,), 4, system="acdit"), "acdit does not; pass a system of text"),
        (Request((5,), 4, system="nothing"), "nothing"),
        (Request((5,), 2, constraint=regex("[0-9]{9}")), "needs at least"),
        (Request((5,), 4, bias={-1: 1.0}), "a bias is for a token outside of 0"),
        (Request((5,), 4, top=-1), "top is -1; pass 0 to"),
    ):
        with pytest.raises(SettingError, match=message):
            engine.add(request)
    assert not engine.busy
    engine.add(Request((5,), 4))
    engine.add(Request((5,), 4))
    with pytest.raises(BusyError, match="2 requests are waiting already; come again later"):
        engine.add(Request((5,), 4))


def test_engine_settings() -> None:
    for changes in ({"slots": 0}, {"page": 0}, {"rows": 0}, {"chunk": 0}):
        with pytest.raises(SettingError, match="pass 1 or more"):
            Engine(model("ar"), **changes)


def test_nothing_to_generate_ends_at_once() -> None:
    engine = Engine(model("sdar", block_size=4))
    (events,) = drive(engine, [Request((5, 6, 7), 0)]).values()
    assert [(event.last, event.forwards, len(event.content)) for event in events] == [(True, 0, 0)]


def test_a_row_that_comes_later_has_no_drafts() -> None:
    """Its first forward verifies none, neither those of the row before it in its place nor zeros."""
    made = model("tidar", block_size=4)
    bias = {0: 100.0}  # every draft is token 0, and right
    requests = [Request(tuple(range(5, 5 + n)), 24, stop=(), bias=bias) for n in (3, 9, 14, 6)]
    found = drive(Engine(made, slots=512, page=4, rows=2, chunk=4), requests)
    alone = [drive(Engine(made, page=4), [request])[0] for request in requests]
    assert [text(events) for events in found.values()] == [text(events) for events in alone]
    assert all(text(events)[1][:2] == [1, 2] for events in alone)
