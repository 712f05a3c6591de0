"""The one loop: walk every row over its grid of units x levels, and yield units as they become clean.

    while some row has a move left:
        feed      everything that a live unit may see and that is not in memory, one contiguous slice of the row
        commit    the clean units of that slice (the commit is fused with the step: no forward of its own)
        advance   the live units one step of the process
        yield     the units that became clean

Autoregression, block diffusion, full diffusion, diagonal and level-by-level orders are choices of arguments here. A
step asks for what it needs of the network (``Feed``, ``Head``); who runs the walk answers, alone or for many at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..arrangements import Arrangement, taken
from ..attention.patterns import Pattern, Tags
from ..constraints import Automaton
from ..errors import SettingError
from ..grid import Levels, Move, Noise, Schedule
from ..memory import Memory, Span, own
from ..nn.native import accelerated
from ..processes import Constrained, Process, Turn
from .checks import check, fit
from .events import OPEN, Event
from .held import Held

if TYPE_CHECKING:
    from ..layouts import Layout
    from ..nn import Transformer

__all__ = ["Asked", "Feed", "Guide", "Head", "Row", "Walk"]


class Guide(Protocol):
    """How a prediction is made from several forwards.

    ``told(label)``: what each of them is told, (label, hide); with ``hide`` all that was known of a row at its start is
    masked. Called with what they said, in that order, it gives the prediction. hides: whether any hides, so that no
    memory may keep anything.
    """

    @property
    def hides(self) -> bool: ...

    def told(self, label: Tensor | None) -> list[tuple[Tensor | None, bool]]: ...

    def __call__(self, said: Sequence[Tensor]) -> Tensor: ...


@dataclass(eq=False)
class Row:
    """One row on its way: where it is in the tables, its levels, and the unit before which it ends (a stop token).

    name: what its events call it. first: its first unit that is not clean; begun: whether that unit has had a move or,
    where a token is predicted at the one before it, whether its first token is known, or that of the window that it is
    in. behind: of the window that was moved last, the units behind its first, if it is read whole. widest: how many
    tokens its first forward was given, which reads the prompt, and the most that a later one was.
    """

    number: int
    prompt: int
    length: int
    levels: Levels
    end: int
    stop: tuple[int, ...] = ()
    name: int = 0
    first: int = 0
    forwards: int = 0
    slots: int = 0
    widest: tuple[int, int] = 0, 0
    begun: bool = True
    behind: range = range(0)

    def feed(self, count: int, forward: bool = True) -> None:
        """A forward was given so many tokens of it; ``forward``: it counts as one of its own."""
        first, later = self.widest
        self.widest = (first, max(later, count)) if self.slots else (count, later)
        self.forwards += forward and count > 0
        self.slots += count


@dataclass
class Feed:
    """What a forward is given of some rows, to answer with their hidden states [rows, n, hidden].

    rows: which of the living ones. content, positions: [rows, n (, ...)]. slots: where the
    keys are written in the memory of the row [rows, n]. valid: boolean [rows, n], where there is a token at all;
    None: everywhere. order: the physical order of the tokens, if not that of their places. told: levels and labels.
    ``seen(which, reads)``: who may see which of the first ``reads`` keys, boolean [which, n, reads], for some of the
    rows; ``free``: of every row, whether all its tokens see all that is read.
    """

    rows: list[int]
    spans: list[Span]
    reads: list[int]
    content: Tensor
    positions: Tensor
    slots: Tensor
    valid: Tensor | None
    seen: Callable[[list[int], int], Tensor]
    free: list[bool]
    order: Tensor | None = None
    told: dict[str, Tensor] = field(default_factory=dict)


class Head(NamedTuple):
    """Hidden states, to answer with their predictions. counts: how many of them belong to every row of ``rows``."""

    hidden: Tensor
    rows: list[int]
    counts: list[int]


Asked = Feed | Head


class Walk:
    """The state of rows that take the same path: content and levels of all of them, and the memory behind them.

    Rows come by ``add`` and ``join``, and leave when they have no move left; ``run`` walks all to their end.
    """

    extra = 0
    """Tokens that a forward is given besides those of the row."""
    fills = True
    """Whether it can fill tokens that are open inside a prompt."""
    constrained = Constrained
    """How its process is held to constraints."""

    memory: Memory

    def __init__(
        self,
        network: Transformer,
        layout: Layout,
        process: Process,
        schedule: Schedule,
        pattern: Pattern,
        arrangement: Arrangement | None = None,
        guide: Guide | None = None,
        drafts: bool = False,
        fuse: bool = True,
        details: bool = False,
        labelled: bool = False,
        top: int = 0,
    ) -> None:
        self.plain, self.layout, self.process, self.schedule = network, layout, process, schedule
        self.pattern, self.drafts, self.fuse, self.arrangement = pattern, drafts, fuse, arrangement
        self.guide, self.labelled, config = guide, labelled, network.config
        self.config, self.text = config, config.features == 0
        self.kind = torch.long if self.text else torch.float32
        self.tail = () if self.text else (config.features,)
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        hides = guide is not None and guide.hides
        fit(process, layout, config, hides)
        self.seeds: list[int] = []
        self.noise = Noise(self.seeds, self.device, config.vocab_size)
        self.held = Held(process, schedule, config.vocab_size)
        self.alive: list[Row] = []
        self.moves: list[Move] = []
        self.vacant: list[int] = []
        # the last column is for cells that no row has
        self.content = torch.zeros((0, 1, *self.tail), dtype=self.kind, device=self.device)
        self.label = torch.zeros(0, dtype=torch.long, device=self.device) if labelled else None
        places = layout.positions(torch.arange(0, device=self.device))
        self.positions = places.unsqueeze(0)[:0]
        self.carry: Tensor | None = None
        self.log_prob = torch.zeros(0, 1, device=self.device) if details else None
        self.order = torch.full((0, 1), -1, device=self.device) if details else None
        self.given = torch.zeros(0, 1, dtype=torch.bool, device=self.device) if hides else None
        self.top = None
        if top:
            shape = 0, 1, min(top, config.vocab_size)
            self.top = torch.zeros(shape, dtype=torch.long, device=self.device), torch.zeros(shape, device=self.device)
        self.reserve(0, 0)

    @cached_property
    def network(self) -> Any:
        """The network as it is run here."""
        return accelerated(self.plain)

    def reserve(self, rows: int, width: int) -> None:
        """Make the tables large enough for so many rows of so many tokens."""
        rows, width = max(rows, len(self.content)), max(width, self.content.shape[1] - 1)
        more = rows - len(self.content), width + 1 - self.content.shape[1]
        if any(more):
            self.content = _grown(self.content, *more)
            place = self.layout.positions(torch.arange(width, device=self.device))
            places = place.expand(rows, *place.shape).clone()
            places[: len(self.positions), : self.positions.shape[1]] = self.positions
            self.positions = places
            if self.carry is not None:
                self.carry = _grown(self.carry, *more)
            if self.log_prob is not None and self.order is not None:
                self.log_prob, self.order = _grown(self.log_prob, *more), _grown(self.order, *more, fill=-1)
            if self.given is not None:
                self.given = _grown(self.given, *more)
            if self.top is not None:
                self.top = _grown(self.top[0], *more), _grown(self.top[1], *more)
            if self.label is not None:
                self.label = torch.cat((self.label, self.label.new_zeros(more[0])))
        self.vacant += range(rows - more[0], rows)
        self.seeds += [0] * more[0]
        self.width = width
        self.nowhere = width + self.extra  # the slot of what is padding
        self.units = self.layout.units(self.nowhere)
        # of every cell, and of the slots besides a row's: its place, its unit, its document
        self.index = torch.arange(self.nowhere, device=self.device)
        self.unit, self.document = self.layout.unit(self.index), torch.zeros_like(self.index)

    def needs(self, known: Tensor, length: int, who: int = 0) -> int:
        """Cells that a row takes. ``SettingError`` for one that cannot be generated; ``who``: its number in words."""
        check(who, known, length, self.process, self.config, self.layout, self.fills and self.process.feeds_draft)
        return self.layout.units(len(known) + length) * self.layout.size

    def known(self, prompt: Sequence[int] | Tensor) -> Tensor:
        """A prompt as this walk reads it."""
        known = torch.as_tensor(prompt, dtype=self.kind, device="cpu")
        return known if len(known) else known.new_zeros(0, *self.tail)

    def add(
        self,
        known: Tensor,
        length: int,
        seed: int = 0,
        label: int | None = None,
        stop: tuple[int, ...] = (),
        places: Tensor | None = None,
        constraint: Automaton | None = None,
        name: int | None = None,
    ) -> Row:
        """A new row in the tables, which are made larger where that is needed. It has not joined the walk yet."""
        total, size, process = self.needs(known, length, name or 0), self.layout.size, self.process
        units = total // size
        if not self.vacant or total > self.width:
            self.reserve(len(self.content) if self.vacant else 2 * len(self.content) + 1, total)
        number = min(self.vacant)
        who = number if name is None else name
        self.seeds[number] = seed
        content = torch.zeros((self.width + 1, *self.tail), dtype=self.kind)
        if units:
            draw = partial(self._draw, lambda: [(number, unit, -1) for unit in range(units)], 1, None)
            content[:total] = process.prior(draw, units, size, *self.tail).reshape(total, *self.tail)
        fresh = content[: len(known)]
        content[: len(known)] = known.where(known != OPEN, fresh) if self.text else known
        levels, last = Levels.start(units), -(-(len(known) + length) // size)
        if not self.text:
            levels.value[: len(known) // size] = 0.0
        elif units:
            levels.value[:] = process.level(content[:total].view(units, size)).double().numpy()
            wanted = content[(last - 1) * size : len(known) + length]
            if not process.open(wanted[None]).any():
                levels.value[last - 1] = 0.0  # only the filling behind the row's end is open
        levels.prompt = levels.past = levels.frontier()
        self.held.add(number, constraint, known, length, stop, levels, f"row {who}")
        place = self.layout.positions(torch.arange(self.width, device=self.device))
        if places is not None:
            if places.shape != place[:total].shape:
                raise SettingError(
                    f"row {who} has {total} tokens in whole blocks, its places are {list(places.shape)}; "
                    f"pass {list(place[:total].shape)}"
                )
            most = self.config.max_positions
            if total and not 0 <= int(places.min()) <= int(places.max()) < most:
                raise SettingError(f"row {who}: a place is outside 0 to {most - 1}; shorten the row")
            place = place.clone()
            place[:total] = places
        self.content[number], self.positions[number] = content.to(self.device), place
        if self.label is not None:
            self.label[number] = self._label(label, who)
        if self.given is not None:
            self.given[number] = False
            self.given[number, : len(known)] = (known != OPEN).to(self.device)
        if self.log_prob is not None and self.order is not None:
            self.log_prob[number], self.order[number] = 0.0, -1
        if self.carry is not None:  # not that of the row that was here before
            self.carry[number] = self._nothing(self.content[number : number + 1], self.carry)[0]
        if self.top is not None:
            self.top[0][number], self.top[1][number] = 0, 0.0
        self.vacant.remove(number)
        return Row(number, len(known), length, levels, last, stop if self.text else (), who)

    def _nothing(self, content: Tensor, carry: Tensor) -> Tensor:
        """What rows of this content carry before their first step; carry: what others do."""
        return carry.new_zeros(*content.shape[:2], *carry.shape[2:])

    def _label(self, label: int | None, who: int) -> int:
        if label is None:
            raise SettingError("some rows have labels and others none; pass one per row")
        if self.config.classes and not 0 <= label <= self.config.classes:
            most = self.config.classes
            raise SettingError(f"row {who}: the label is {label}; pass 0 to {most - 1}, {most} for none")
        return label

    def furnish(self, memory: str) -> None:
        """Give the walk a memory for all the rows that are in its tables.

        Raises ``SettingError`` for one that keeps what guidance shows masked.
        """
        config = self.config
        if self.given is not None and memory != "none":
            raise SettingError(
                "guidance masks the prompt in every second forward, so no key can be kept; the memory is "
                f"{memory!r}, pass none"
            )
        shape = config.num_layers, config.num_kv_heads, config.head_dim, self.nowhere
        self.memory = own(memory, len(self.content), *shape, self.dtype, self.device)

    def run(self, rows: Sequence[Row], ended: Collection[int] = ()) -> Iterator[Event]:
        """Walk until no row has a move left; the memory has a place for every one of the rows.

        ended: rows that nobody wants any more, by name; looked at before every move, so it may grow meanwhile.
        """
        self.alive = list(rows)
        yield from self.idle()
        while self.settle(ended):
            with torch.inference_mode():
                events = self.answered(self.step(list(range(len(self.alive)))))
            yield from events

    def idle(self) -> list[Event]:
        """The rows in which nothing is open end without a step."""
        done = [row for row in self.alive if row.levels.frontier() >= row.end]
        if done:
            self.keep([r for r, row in enumerate(self.alive) if row not in done])
        self._look()
        nothing = [self.content[row.number, :0] for row in done]
        return [
            Event(row.name, len(row.levels), row.prompt, content, True, 0.0, 0, last=True)
            for row, content in zip(done, nothing, strict=True)
        ]

    def settle(self, ended: Collection[int] = ()) -> list[Move]:
        """The next moves, of every living row one; a row that has none left, or is ``ended``, is gone."""
        moves = [
            None if row.first >= row.end or row.name in ended else self.schedule(row.levels, row.first)
            for row in self.alive
        ]
        if None in moves:
            self.keep([r for r, move in enumerate(moves) if move is not None])
        self.moves = [move for move in moves if move is not None]
        return self.moves

    def keep(self, kept: list[int]) -> None:
        """Only these of the living rows go on."""
        left = {self.alive[r].number for r in kept}
        self.vacant += [row.number for row in self.alive if row.number not in left]
        self.memory.keep(kept)
        self.alive = [self.alive[r] for r in kept]

    def answered(self, step: Generator[Asked, Tensor, list[Event]]) -> list[Event]:
        """Run a step, with forwards of its own; what it found."""
        try:
            asked = next(step)
            while True:
                answer = self.network.head(asked.hidden) if isinstance(asked, Head) else self.fed(asked)
                asked = step.send(answer)
        except StopIteration as done:
            found: list[Event] = done.value
            return found

    def fed(self, feed: Feed) -> Tensor:
        """One forward over a rectangle: what is behind the end of a row's tokens is padding."""
        reads = self.memory.open(feed.reads, feed.rows)
        mask = None
        if not (all(feed.free) and len(set(feed.spans)) == 1):
            mask = feed.seen(list(range(len(feed.rows))), reads)
            if len(set(feed.spans)) > 1:
                mask = mask & self._there(feed, reads)
            mask = mask.unsqueeze(1)
        shown = self.process.shown(feed.content)
        hidden: Tensor = self.network(shown, feed.positions, mask, self.memory, feed.slots, **feed.told)
        return hidden if feed.order is None else taken(hidden, feed.order.argsort(1))

    def step(self, chosen: list[int]) -> Generator[Asked, Tensor, list[Event]]:
        """One step of the process for every live unit of some of the living rows, and a forward for it."""
        size, shift, device = self.layout.size, self.process.shift, self.device
        rows, moves = [self.alive[r] for r in chosen], [self.moves[r] for r in chosen]
        together = moves[0].together or 1
        some = slice(1 if moves[0].together else None)  # the first unit of every stretch of ``together`` units
        live = [
            (r, u, s)
            for r, move in enumerate(moves)
            for u, s in zip(move.units[some], move.step[some], strict=True)
        ]
        cells = together * size
        spans = [self._span(r, move) for r, move in zip(chosen, moves, strict=True)]
        fed = [self._committable(r, self.moves[r]) for r in chosen]  # clean units that this forward sees for good
        before = [self.memory.lengths[r] for r in chosen]
        if (
            not self.fuse
            and self.memory.keeps
            and self.process.feeds_draft
            and any(row.levels.value[list(move.units)].any() for row, move in zip(rows, moves, strict=True))
            and any(units * size > done for units, done in zip(fed, before, strict=True))
        ):
            yield self.feed(chosen, [Span(done, n * size, n * size) for done, n in zip(before, fed, strict=True)])
            self._commit(chosen, fed)
            spans = [self._span(r, move) for r, move in zip(chosen, moves, strict=True)]

        numbers, units = [rows[r].number for r, _, _ in live], [u for _, u, _ in live]
        steps = self._numbers([s for _, _, s in live])
        where = self._where(numbers, [u * size for u in units], cells, self.width)
        x = self.content[where]
        wanted = self.process.open(x)
        if any(len(moves[r].units) < together for r, _, _ in live):  # a shorter row has fewer units left
            left = self._numbers([len(moves[r].units) * size for r, _, _ in live])
            wanted &= torch.arange(cells, device=device) < left[:, None]
        blind = [i for i, (r, _, _) in enumerate(live) if moves[r].blind]
        if blind:
            wanted[blind, shift:] = False
        counts = [sum(row) for row in wanted.tolist()]  # of few numbers sooner than by an operator
        width = max(span.end - span.start for span in spans)
        starts = [u * size - shift - spans[r].start for r, u, _ in live]
        read = self._where([r for r, _, _ in live], starts, cells, width - 1)

        label = None if self.label is None else self.label[[row.number for row in rows]]
        said = []
        for one, hide in [(label, False)] if self.guide is None else self.guide.told(label):
            feed = self.ahead(chosen, spans, one)
            if hide:
                self._hide(feed)
            hidden = self._read((yield feed), read, wanted, counts, width)
            said.append((yield Head(hidden, *self._owners(hidden, live, chosen, counts))))
        prediction = said[0] if self.guide is None else self.guide(said)

        carry = None if self.carry is None else self.carry[where]
        points = cache(partial(self._points, rows, live, together))
        draw = partial(self._draw, points, together, wanted if together > 1 and sum(counts) < wanted.numel() else None)
        details = self.log_prob is not None
        process: Process | Constrained = self.process
        if self.held.stretches:
            paths = [(row.number, row.first, move) for row, move in zip(rows, moves, strict=True)]
            places = [(number, unit * size) for number, unit in zip(numbers, units, strict=True)]
            windows = self.held.windows(paths, self.content, places, cells)
            if any(windows):
                process = self.constrained(self.process, windows)
        count = 0 if self.top is None else self.top[0].shape[-1]
        after = process.advance(x, prediction, Turn(steps, moves[0].of, draw, carry, details, wanted, count))
        still = self.process.open(after.x)
        if self.top is not None and after.top is not None:
            fixed = wanted & ~still
            for table, values in zip(self.top, after.top, strict=True):
                table[where] = values.where(fixed[..., None], table[where])
        if self.log_prob is not None and self.order is not None and after.log_prob is not None:
            fixed = wanted & ~still
            self.log_prob[where] = after.log_prob.where(fixed, self.log_prob[where])
            visits = self._numbers([visit for _, _, visit in points()])
            move = visits.view(-1, together).repeat_interleave(size, 1)
            self.order[where] = move.where(fixed, self.order[where])
        self.content[where] = after.x
        if after.carry is not None:
            if self.carry is None:
                self.carry = self._nothing(self.content, after.carry)
            self.carry[where] = after.carry

        for row, done in zip(rows, moves, strict=True):
            row.levels.past = row.first
            row.behind = range(min(done.units) + 1, max(done.units) + 1) if done.whole else range(0)
        reached = []
        levels = _shares(still, size) if after.level is None else after.level[:, None].tolist()
        told = after.x.tolist() if self.text and any(row.stop for row in rows) else []
        for i, ((r, first, _), found) in enumerate(zip(live, levels, strict=True)):
            row, count = rows[r], len(moves[r].units) if together > 1 else 1
            mine = slice(first, first + min(count, len(found)))
            value = row.levels.value[mine]
            noisy = value > 0
            row.levels.visits[mine] += noisy
            value[noisy] = np.array(found[:count])[noisy]
            for j in (noisy if self.drafts else noisy & (value <= 0)).nonzero()[0].tolist():
                if found[j] <= 0 and row.stop and self._stops(row, first + j, told[i][j * size :][:size]):
                    row.end = min(row.end, first + j + 1)  # the row goes on until all before its end is clean
                reached.append((row, first + j, found[j], i * together + j))
        self._look()
        self._keep(chosen, fed)
        shown = [one for one in reached if one[1] < one[0].end]
        return self._events(shown, after.x.view(-1, size, *self.tail))

    def ready(self, r: int) -> int:
        """How many tokens of a row could be in memory before its next move, that are worth a forward of their own.

        The move's own forward is left a token, even where it has nothing to decide.
        """
        if not self.memory.keeps:
            return 0
        row = self.alive[r]
        fed = Walk._committable(self, r, self.schedule(row.levels, row.first))
        return min(self._kept(r, fed), self.reach(r) - self.extra - 1)

    def borders(self, r: int, most: int) -> int:
        """The last token up to which ``most`` tokens of what is ``ready`` can be fed: units that see each other go
        together."""
        row, size = self.alive[r], self.layout.size
        done, goal = self.memory.lengths[r], self.ready(r)
        end, unit = done, done // size
        while end < goal:
            last = self.pattern.horizon(unit, len(row.levels))
            close = min((last + 1) * size, goal)
            if close - done > most and end > done:
                break
            end, unit = close, last + 1
        return end

    def join(self, row: Row) -> None:
        """A row more, for which the memory has a place at its end."""
        self.alive.append(row)
        self._look()

    def leave(self, r: int) -> Row:
        """A row goes without its memory, and may join again."""
        row = self.alive.pop(r)
        self.memory.keep([other for other in range(len(self.alive) + 1) if other != r])
        return row

    def commit(self, rows: list[int], ends: list[int]) -> None:
        """Keep of these rows the tokens up to ``ends``, which a forward of their own was given."""
        lengths = list(self.memory.lengths)
        for r, end in zip(rows, ends, strict=True):
            lengths[r] = end
        self.memory.commit(lengths)

    def _span(self, r: int, move: Move) -> Span:
        """What the forward of a move is given of a row."""
        size, row = self.layout.size, self.alive[r]
        first = min(move.units) * size
        if move.blind or not self.process.feeds_draft:
            return Span(self.memory.lengths[r], first, first)
        horizon = self.pattern.horizon(max(move.units), len(row.levels))
        return self.memory.span(r, first, (max(move.units) + 1) * size, (horizon + 1) * size, row.begun)

    def reach(self, r: int) -> int:
        """How many slots of memory the next move of a row reads."""
        row = self.alive[r]
        move = self.schedule(row.levels, row.first)
        return 0 if move is None else self._span(r, move).reads + self.extra

    def _turns(self, row: Row, first: int, count: int) -> list[int]:
        """Which numbers of the units' noise are drawn: by visits, not by step, since the last step may be taken again;
        0 behind the row."""
        visits: list[int] = row.levels.visits[first : first + count].tolist()
        return visits + [0] * (count - len(visits))

    def _points(
        self, rows: list[Row], live: list[tuple[int, int, int]], together: int
    ) -> list[tuple[int, int, int]]:
        """(row, unit, which of its numbers) of every unit that is decided on."""
        return [
            (rows[r].number, u, turn)
            for r, first, _ in live
            for u, turn in enumerate(self._turns(rows[r], first, together), first)
        ]

    def _read(self, hidden: Tensor, read: Any, wanted: Tensor, counts: list[int], width: int) -> Tensor:
        """The hidden states that are read: of hidden [rows, n, d], whose first ``width`` are of the row, those where
        something is still open, ``counts`` of every row."""
        known: Tensor = hidden[read]
        return known.flatten(0, 1) if sum(counts) == wanted.numel() else known[wanted]

    def _owners(
        self, hidden: Tensor, live: list[tuple[int, int, int]], chosen: list[int], counts: list[int]
    ) -> tuple[list[int], list[int]]:
        """To which living row how many of the hidden states that are read belong, in order."""
        return [chosen[r] for r, _, _ in live], counts

    def _keep(self, chosen: list[int], fed: list[int]) -> None:
        """Keep what a forward has seen for good: of every row, the first ``fed`` units."""
        self._commit(chosen, fed)

    def _look(self) -> None:
        """See of every row which unit is the first that is not clean, and whether it has begun."""
        for row in self.alive:
            row.first = row.levels.frontier(row.first)
            row.begun = row.first < len(row.levels) and bool(row.levels.visits[row.first])
        if self.alive and self.process.shift and self.process.feeds_draft:
            places = [row.first * self.layout.size for row in self.alive]
            open = self.process.open(self.content[[row.number for row in self.alive], places]).tolist()
            for row, unknown in zip(self.alive, open, strict=True):
                row.begun = row.first < len(row.levels) and (not unknown or row.first in row.behind)

    def _where(self, rows: list[int], starts: list[int], count: int, last: int) -> Any:
        """An index of the ``count`` cells from each start on: tensors [rows, n, ...] -> [len(rows), count, ...].

        For a cell outside of 0..last, which nobody will ask for, stands the nearest one inside.
        """
        if len(rows) == 1 and 0 <= starts[0] <= last + 1 - count:
            return slice(rows[0], rows[0] + 1), slice(starts[0], starts[0] + count)
        first = self._numbers(starts)[:, None]
        cells = first + torch.arange(count, device=self.device)
        return self._numbers(rows)[:, None], cells.clamp_(0, last)

    def _committable(self, r: int, move: Move | None) -> int:
        """How many units, from the first, see clean units only before this move: their keys will never change."""
        row = self.alive[r]
        past = min(move.units) if move is not None and move.whole else row.first
        done = self.memory.lengths[r] // self.layout.size
        while done < past and self.pattern.horizon(done, len(row.levels)) < past:
            done += 1
        return done

    def _commit(self, chosen: list[int], units: list[int]) -> None:
        """Keep the first ``units`` units of these rows, except a token whose prediction is read again."""
        self.commit(chosen, [self._kept(r, count) for r, count in zip(chosen, units, strict=True)])

    def _kept(self, r: int, units: int) -> int:
        row, size = self.alive[r], self.layout.size
        unread = row.begun and self.process.feeds_draft
        again = 0 if unread else self.process.shift
        return max(self.memory.lengths[r], min(units * size, row.first * size - again))

    def ahead(self, chosen: list[int], spans: list[Span], label: Tensor | None) -> Feed:
        """What the forward of a step is given."""
        return self.feed(chosen, spans, label)

    def feed(
        self, chosen: list[int], spans: list[Span], label: Tensor | None = None, counts: bool = True, beside: int = 0
    ) -> Feed:
        """A span of every one of some living rows; ``counts``: as a forward of theirs; ``beside``: tokens that it will
        be given besides those of a row."""
        rows, size, device = [self.alive[r] for r in chosen], self.layout.size, self.device
        numbers = [row.number for row in rows]
        for row, span in zip(rows, spans, strict=True):
            row.feed(span.end - span.start + beside, counts)
        n = max(span.end - span.start for span in spans)
        valid: Tensor | None = None
        order: Tensor | None = None
        same: slice | None = None  # the places of their tokens, where these are those of all rows
        if len(set(spans)) == 1:
            first, end, _ = spans[0]
            same = slice(first, end)
            block = slice(numbers[0], numbers[0] + len(numbers))
            which = block if numbers == list(range(block.start, block.stop)) else numbers
            index = slots = self.index[same].expand(len(numbers), n)
            content, positions = self.content[which, same], self.positions[which, same]
        else:
            # rows of different spans share a rectangle: what is behind a row's end goes nowhere and is seen by nobody
            begin, close, _ = torch.tensor(spans, device=device)[:, :, None].unbind(1)
            index = begin + torch.arange(n, device=device)
            valid = index < close
            slots = index.where(valid, self.nowhere)
            index = index.minimum(close - 1).clamp_min(0)
            owner = torch.tensor(numbers, device=device)[:, None]
            content, positions = self.content[owner, index], self.positions[owner, index]
        if self.arrangement is not None:
            padding = torch.zeros_like(index) if valid is None else (~valid).long()
            order = self.arrangement(self.process.open(content), padding)
        free = [self.pattern.full(span.start // size, (span.reads - 1) // size, size) for span in spans]
        reads = [span.reads for span in spans]
        seen = partial(self._seen, chosen, index, same)
        feed = Feed(chosen, spans, reads, content, positions, slots, valid, seen, free, order)
        if order is not None:
            feed.content, feed.positions = taken(content, order), taken(positions, order)
        if self.process.conditioned:
            index = index if order is None else taken(index, order)
            feed.told["level"] = self._levels(rows).gather(1, self.unit[index])
        if label is not None:
            feed.told["label"] = label[:, None].expand(-1, n)
        return feed

    def _hide(self, feed: Feed) -> None:
        """Mask what was known at the start."""
        assert self.given is not None
        owner = torch.tensor([self.alive[r].number for r in feed.rows], device=self.device)[:, None]
        mask_id: int = self.process.mask_id  # type: ignore[attr-defined]
        given = self.given[owner, feed.slots.clamp_max(self.width)]
        given = given if feed.order is None else taken(given, feed.order)
        feed.content = feed.content.masked_fill(given, mask_id)

    def _seen(self, chosen: list[int], index: Tensor, same: slice | None, which: list[int], reads: int) -> Tensor:
        rows, moves = [self.alive[chosen[r]] for r in which], [self.moves[chosen[r]] for r in which]
        levels = self._levels(rows, moves)
        noisy = (levels > 0).index_select(1, self.unit).long()
        every = Tags(self.index[None], self.unit[None], self.document[None], noisy)
        keys = Tags(*(tag[:, :reads] for tag in every))
        if same is None:
            queries = self._tags(index if len(which) == len(index) else index[which], levels)
        else:
            queries = Tags(*(tag[:, same] for tag in every))
        return self.pattern(queries.queries(), keys.keys())  # a row is one document

    def _there(self, feed: Feed, reads: int) -> Tensor:
        """Which of the slots a row may read at all."""
        far = torch.tensor(feed.reads, device=self.device)[:, None].clamp_min(1)
        return (torch.arange(reads, device=self.device)[None] < far).unsqueeze(1)

    def _levels(self, rows: Sequence[Row], moves: Sequence[Move] = ()) -> Tensor:
        """The level of every unit of some rows, float32 [rows, units]; 0 where a row has no such unit.

        moves: their moves, where the level shall say who is a noisy unit, and not how noisy.
        """
        found = np.zeros((len(rows), self.units), dtype=np.float32)
        for values, row in zip(found, rows, strict=True):
            values[: len(row.levels)] = row.levels.value
        for values, move in zip(found, moves, strict=False):
            if move.whole:
                values[list(move.units)] = 1.0
        return torch.from_numpy(found).to(self.device)

    def _numbers(self, values: Sequence[int]) -> Tensor:
        """int64 [n]; sooner than ``torch.tensor`` makes it."""
        return torch.from_numpy(np.array(values, dtype=np.int64)).to(self.device)

    def _tags(self, index: Tensor, levels: Tensor) -> Tags:
        """Of the tokens at ``index`` [rows or 1, n]: those of a clean unit are the clean copy, others a noisy one."""
        unit = self.unit[index]
        noisy = levels.gather(1, unit.expand(len(levels), -1)) > 0
        return Tags(index, unit, torch.zeros_like(index), noisy.long())

    def _stops(self, row: Row, unit: int, tokens: list[int]) -> bool:
        """Whether a clean unit of these tokens holds a stop token behind the prompt."""
        start, end = row.prompt - unit * self.layout.size, row.prompt + row.length - unit * self.layout.size
        return any(token in row.stop for token in tokens[max(start, 0) : max(end, 0)])

    def _events(self, shown: list[tuple[Row, int, float, int]], contents: Tensor) -> list[Event]:
        """What is said of units: of a row, a unit, its level, and which of the contents [.., size] is its own."""
        if not shown:
            return []
        size = self.layout.size
        last = {row.number: unit for row, unit, *_ in shown if row.first >= row.end}
        where = self._where([row.number for row, *_ in shown], [unit * size for _, unit, *_ in shown], size, self.width)

        def of(table: Tensor | None) -> Sequence[Any]:
            return [None] * len(shown) if table is None else table[where].clone().unbind(0)

        top = [None] * len(shown) if self.top is None else list(zip(*map(of, self.top), strict=True))
        found = []
        told = zip(shown, of(self.log_prob), of(self.order), top, strict=True)
        for (row, unit, level, which), log_prob, order, likeliest in told:
            start, content = unit * size, contents[which]
            kept = row.prompt + row.length - start
            if self.text and level > 0:
                content = content.masked_fill(self.process.open(content), OPEN)
            if kept < size:
                content = content[:kept]
                log_prob, order = (None if one is None else one[:kept] for one in (log_prob, order))
                likeliest = None if likeliest is None else tuple(one[:kept] for one in likeliest)
            found.append(
                Event(
                    row.name, unit, start, content, level <= 0, level, row.forwards, last.get(row.number) == unit,
                    row.slots, log_prob, order, likeliest, row.widest,
                )
            )  # fmt: skip
        return found

    def _draw(
        self,
        points: Callable[[], list[tuple[int, int, int]]],
        together: int,
        wanted: Tensor | None,
        kind: str,
        cells: int,
        *tail: int,
    ) -> Tensor:
        """Noise of units (row, unit, step), side by side where several are decided on together: [units / together,
        cells, ...]; 0 in units in which nothing is ``wanted`` [units / together, cells]."""
        size = cells // together
        needed = None if wanted is None else wanted.reshape(-1, size).any(1).nonzero()[:, 0]
        every = points()
        asked = every if needed is None else [every[i] for i in needed.tolist()]
        rows, units, steps = zip(*asked, strict=True) if asked else ((), (), ())
        drawn: Tensor = getattr(self.noise, kind)(rows, units, steps, (size, *tail))
        if needed is not None and len(asked) < len(every):
            drawn = drawn.new_zeros(len(every), *drawn.shape[1:]).index_copy_(0, needed, drawn)
        return drawn.reshape(-1, cells, *tail)


def _shares(open: Tensor, size: int) -> list[list[float]]:
    """Of cells [m, n] the share that is open of every ``size``, as float32 has it, [m, n / size]."""
    cells = open.cpu().numpy()
    counts = cells.reshape(len(cells), cells.shape[1] // size, size).sum(2, dtype=np.float32)
    shares: list[list[float]] = (counts / np.float32(size)).tolist()
    return shares


def _grown(x: Tensor, rows: int, cells: int, fill: float = 0) -> Tensor:
    """A table [rows, cells, ...] made larger."""
    found = x.new_full((x.shape[0] + rows, x.shape[1] + cells, *x.shape[2:]), fill)
    found[: x.shape[0], : x.shape[1]] = x
    return found
