"""The one loop: walk every row over its grid of units x levels, and yield units as they become clean.

    while some row has a move left:
        feed      everything that a live unit may see and that is not in memory, one contiguous slice of the row
        commit    the clean units of that slice (the commit is fused with the step: no forward of its own)
        advance   the live units one step of the process
        yield     the units that became clean

Autoregression, block diffusion, full diffusion, diagonal and level-by-level orders are choices of arguments here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .attention.patterns import Pattern, Tags, dense
from .errors import SettingError
from .grid import Levels, Move, Noise, Schedule
from .memory import ExactKV, Memory, Recompute
from .processes import Process

if TYPE_CHECKING:
    from .layouts import Layout
    from .nn import Transformer, TransformerConfig

__all__ = ["Event", "Result", "collect", "generate"]

OPEN = -1
"""In a prompt: a token that is not known and shall be generated (infilling)."""

Guide = Callable[[Callable[[Tensor | None], Tensor], Tensor | None], Tensor]
"""How a prediction is made from forwards under different labels: (predict(label), label) -> prediction."""


@dataclass(frozen=True)
class Event:
    """One unit of one row, after a step of the path.

    content: its tokens int64 [size] (a token still open is ``OPEN``), or features [size, d]. start: place of its first
    token in the row. clean: whether it is finished; otherwise it is a draft. level: what noise is left. log_prob: of
    its tokens when they were fixed (text; on request). order: at which of the unit's steps each token was fixed.
    forwards: how many forwards the row has taken so far. last: whether this event ends the row.
    """

    row: int
    unit: int
    start: int
    content: Tensor
    clean: bool
    level: float
    forwards: int
    last: bool = False
    log_prob: Tensor | None = None
    order: Tensor | None = None


@dataclass
class Result:
    """A finished row: what was generated behind the prompt, up to the length or the first stop token (not included).

    content: the new tokens, or all features. row: everything, prompt included. forwards: network calls that the row took
    part in. stopped: whether a stop token ended it.
    """

    content: Tensor
    row: Tensor
    forwards: int
    stopped: bool = False
    log_prob: Tensor | None = None
    order: Tensor | None = None

    @property
    def tokens_per_forward(self) -> float:
        return len(self.content) / max(1, self.forwards)


@dataclass
class _Row:
    """One row on its way: where it is in the batch, its levels, what is known of its end."""

    number: int
    prompt: int
    length: int
    levels: Levels
    first: int = 0
    forwards: int = 0
    stopped: bool = False


def generate(
    network: Transformer,
    prompts: Sequence[Sequence[int] | Tensor],
    length: int | Sequence[int],
    *,
    layout: Layout,
    process: Process,
    schedule: Schedule,
    pattern: Pattern,
    memory: str = "exact",
    stop: Sequence[int] = (),
    seed: int | Sequence[int] = 0,
    label: Sequence[int] | None = None,
    guide: Guide | None = None,
    drafts: bool = False,
    fuse: bool = True,
    details: bool = False,
    places: Sequence[Tensor] | None = None,
) -> Iterator[Event]:
    """Generate ``length`` tokens behind every prompt; yield each unit as it becomes clean.

    A row in a batch gives exactly what it gives alone: rows never see each other, every row walks at its own pace, and
    its noise is indexed by (its seed, unit, step).

    Args:
        prompts: one per row: token ids (``OPEN`` = -1 marks tokens to infill), or features [n, d] of known units.
        length: tokens to generate behind the prompt, one number or one per row; 0 only fills what is open.
        layout, process, schedule, pattern: the system (see ``interlace.systems``).
        memory: "exact" (keys and values kept) or "none" (everything recomputed; the reference).
        stop: token ids that end a row, after the unit in which they appear.
        seed: one seed for every row, or one per row. label: class of every row, for conditional networks.
        guide: how predictions under several labels are combined (``interlace.guidance``).
        drafts: also yield units that are still noisy, after every step.
        fuse: feed a clean unit together with the next unit's first step; False spends a forward of its own on it.
        details: record log-probabilities and the order of reveal.
        places: for every row, the positions of its tokens int64 [n (, axes)], when they are not those of the layout (a
            row that is read in another order than it is written in); units are always cut along the row.

    Raises:
        SettingError: nothing to generate from, a length below 0, or a row longer than the network's positions.
    """
    walk = _Walk(
        network, prompts, length, layout, process, schedule, pattern, memory, tuple(stop), seed, label, guide, drafts,
        fuse, details, places,
    )  # fmt: skip
    return walk.run()


class _Walk:
    """The state of one call of ``generate``: content and levels of all rows, and the memory behind them."""

    def __init__(
        self,
        network: Transformer,
        prompts: Sequence[Sequence[int] | Tensor],
        length: int | Sequence[int],
        layout: Layout,
        process: Process,
        schedule: Schedule,
        pattern: Pattern,
        memory: str,
        stop: tuple[int, ...],
        seed: int | Sequence[int],
        label: Sequence[int] | None,
        guide: Guide | None,
        drafts: bool,
        fuse: bool,
        details: bool,
        places: Sequence[Tensor] | None,
    ) -> None:
        self.network, self.layout, self.process, self.schedule = network, layout, process, schedule
        self.pattern, self.stop, self.drafts, self.fuse = pattern, stop, drafts, fuse
        self.guide, size, config = guide, layout.size, network.config
        parameter = next(network.parameters())
        self.device = parameter.device
        count = len(prompts)
        lengths = [length] * count if isinstance(length, int) else list(length)
        seeds = (seed,) * count if isinstance(seed, int) else tuple(seed)
        if len(lengths) != count or len(seeds) != count or (label is not None and len(label) != count):
            raise SettingError(f"{count} prompts need {count} lengths, seeds and labels; pass one number or one per row")
        known = [torch.as_tensor(p, dtype=torch.float32 if config.features else torch.long) for p in prompts]
        for number, (prompt, more) in enumerate(zip(known, lengths, strict=True)):
            _check(number, prompt, more, process, config, layout)
        self.noise = Noise(seeds, self.device)
        self.label = None if label is None else torch.as_tensor(label, device=self.device)

        totals = [layout.units(len(p) + more) * size for p, more in zip(known, lengths, strict=True)]
        width = max(totals, default=0)
        tail = (config.features,) if config.features else ()
        self.content = torch.zeros((count, width, *tail), dtype=known[0].dtype if known else torch.long)
        self.rows: list[_Row] = []
        for number, (prompt, more) in enumerate(zip(known, lengths, strict=True)):
            units = totals[number] // size
            if units:
                every = range(units)
                prior = process.prior(self._drawing([number] * units, list(every), [-1] * units), units, size, *tail)
                self.content[number, : units * size] = prior.reshape(units * size, *tail)
            fresh = self.content[number, : len(prompt)]
            self.content[number, : len(prompt)] = prompt if config.features else prompt.where(prompt != OPEN, fresh)
            levels = Levels.start(units)
            full = len(prompt) // size
            if config.features:
                levels.value[:full] = 0.0
            elif units:
                cells = self.content[number, : units * size].view(units, size)
                levels.value[:] = process.level(cells).double().numpy()
            self.rows.append(_Row(number, len(prompt), more, levels))
        self.content = self.content.to(self.device)
        index = torch.arange(width, device=self.device)
        self.unit = layout.unit(index)
        self.positions = layout.positions(index).unsqueeze(0).repeat(count, *[1] * layout.positions(index).dim())
        for number, given in enumerate(places or ()):
            if len(given) != totals[number]:
                raise SettingError(
                    f"row {number} has {totals[number]} tokens in whole blocks and {len(given)} places; pass one for each"
                )
            self.positions[number, : len(given)] = given
        self.open_at_start = process.open(self.content) if not config.features else None
        self.carry: Tensor | None = None
        self.log_prob = torch.zeros(count, width, device=self.device) if details else None
        self.order = torch.full((count, width), -1, device=self.device) if details else None
        self.memory: Memory
        if memory == "exact":
            self.memory = ExactKV(
                config.num_layers, count, config.num_kv_heads, config.head_dim, width, parameter.dtype, self.device
            )
        elif memory == "none":
            self.memory = Recompute(count)
        else:
            raise SettingError(f"unknown memory {memory!r}; pass exact or none")

    def run(self) -> Iterator[Event]:
        """Walk until no row has a move left."""
        self.alive = [row for row in self.rows if row.levels.frontier() < len(row.levels)]
        for row in self.rows:
            if row not in self.alive:  # nothing is open: the row ends without a step
                nothing = self.content[row.number, :0]
                yield Event(row.number, len(row.levels), row.prompt, nothing, True, 0.0, 0, last=True)
        if len(self.alive) < len(self.rows):
            self.memory.keep([row.number for row in self.alive])
        while self.alive:
            moves = []
            for row in self.alive:
                row.first = row.levels.frontier(row.first)
                moves.append(None if row.stopped else self.schedule(row.levels, row.first))
            if None in moves:
                kept = [i for i, move in enumerate(moves) if move is not None]
                if kept:
                    self.memory.keep(kept)
                self.alive = [self.alive[i] for i in kept]
            if self.alive:
                with torch.inference_mode():
                    events = self._step([move for move in moves if move is not None])
                yield from events

    def _step(self, moves: list[Move]) -> list[Event]:
        """One forward for every row, and one step of the process for every live unit."""
        rows, size, shift, device = self.alive, self.layout.size, self.process.shift, self.device
        live = [(r, u, s) for r, move in enumerate(moves) for u, s in zip(move.units, move.step, strict=True)]
        ends, safe = [], []
        for r, (row, move) in enumerate(zip(rows, moves, strict=True)):
            first = min(move.units) * size
            last = max(self.pattern.horizon(u, len(row.levels)) for u in move.units)
            ends.append((last + 1) * size if self.process.feeds_draft else first)
            # the token whose prediction is read must be fed, not remembered
            safe.append(max(self.memory.lengths[r], min(self._committable(r) * size, first - shift)))
        if not self.fuse and self.memory.keeps and self.process.feeds_draft and safe != self.memory.lengths:
            self._feed(safe, None)
            self.memory.commit(safe)
            for row in rows:
                row.forwards += 1

        numbers, units = [rows[r].number for r, _, _ in live], [u for _, u, _ in live]
        steps = torch.tensor([s for _, _, s in live], device=device)
        cells = torch.tensor([u * size for u in units], device=device)[:, None] + torch.arange(size, device=device)
        owner = torch.tensor(numbers, device=device)[:, None]
        x = self.content[owner, cells]
        wanted = self.process.open(x)
        slot = torch.tensor([r for r, _, _ in live], device=device)[:, None].expand_as(cells)[wanted]
        starts = torch.tensor([self.memory.lengths[r] for r, _, _ in live], device=device)[:, None]
        read = (cells - shift - starts)[wanted]

        def predict(label: Tensor | None) -> Tensor:
            # the head only where something is still open
            return self.network.head(self._feed(ends, label)[slot, read])

        label = None if self.label is None else self.label[[row.number for row in rows]]
        prediction = predict(label) if self.guide is None else self.guide(predict, label)
        self.memory.commit(safe)

        carry = None if self.carry is None else self.carry[owner, cells]
        draw = self._drawing(numbers, units, [s for _, _, s in live])
        after = self.process.advance(x, prediction, steps, moves[0].of, draw, carry)
        self.content[owner, cells] = after.x
        if after.carry is not None:
            if self.carry is None:
                self.carry = torch.zeros_like(self.content)
            self.carry[owner, cells] = after.carry
        if self.log_prob is not None and self.order is not None and after.log_prob is not None:
            fixed = wanted & ~self.process.open(after.x)
            at = owner.expand_as(cells)[fixed], cells[fixed]
            self.log_prob[at] = after.log_prob[fixed]
            taken = torch.tensor([int(rows[r].levels.visits[u]) for r, u, _ in live], device=device)
            self.order[at] = taken[:, None].expand_as(cells)[fixed]

        for row in rows:
            row.forwards += 1
        events: list[Event] = []
        reached = after.level.tolist()
        for (r, u, _), level in zip(live, reached, strict=True):
            rows[r].levels.value[u] = level
            rows[r].levels.visits[u] += 1
        for (r, u, _), level in zip(live, reached, strict=True):
            if not rows[r].stopped and (self.drafts or level <= 0):
                events.append(self._event(rows[r], u, level))
        return events

    def _committable(self, r: int) -> int:
        """How many units, from the first, see clean units only: their keys will never change."""
        row = self.alive[r]
        done = self.memory.lengths[r] // self.layout.size
        while done < row.first and self.pattern.horizon(done, len(row.levels)) < row.first:
            done += 1
        return done

    def _feed(self, ends: list[int], label: Tensor | None) -> Tensor:
        """One forward over the tokens ``memory.lengths .. ends`` of every row -> hidden states [rows, n, hidden]."""
        starts, numbers = self.memory.lengths, [row.number for row in self.alive]
        reads = self.memory.open(ends)
        n, size, device = max(e - s for s, e in zip(starts, ends, strict=True)), self.layout.size, self.device
        whole = len(numbers) == len(self.rows)
        mask: Tensor | None
        if len(set(starts)) == 1 and len(set(ends)) == 1:
            first, end = starts[0], ends[0]
            index = torch.arange(first, end, device=device).expand(len(numbers), n)
            content = self.content[:, first:end] if whole else self.content[numbers, first:end]
            slots = index
            mask = None
            if not self.pattern.full(first // size, (end - 1) // size, size):
                mask = dense(self.pattern, self._tags(index[:1]), self._tags(torch.arange(reads, device=device)[None]))
        else:
            # rows of different spans share a rectangle: what is behind a row's end goes nowhere and is seen by nobody
            begin, close = (torch.tensor(x, device=device)[:, None] for x in (starts, ends))
            index = begin + torch.arange(n, device=device)
            valid = index < close
            slots = index.where(valid, self.content.shape[1])
            index = index.minimum(close - 1)
            content = self.content[torch.tensor(numbers, device=device)[:, None], index]
            every = torch.arange(reads, device=device)[None]
            mask = dense(self.pattern, self._tags(index), self._tags(every)) & (every < close).unsqueeze(1)
        told: dict[str, Tensor] = {}
        if self.process.conditioned:
            levels = [torch.from_numpy(row.levels.value).to(device, torch.float32) for row in self.alive]
            unit = self.unit[index]
            told["level"] = torch.stack([row[u] for row, u in zip(levels, unit, strict=True)])
        if label is not None:
            told["label"] = label[:, None].expand(-1, n)
        if not content.is_floating_point():
            content = content.clamp_min(0)
        mask = None if mask is None else mask.unsqueeze(1)
        positions = self.positions[torch.tensor(numbers, device=device)[:, None], index]
        return self.network(content, positions, mask, self.memory, slots, **told)

    def _tags(self, index: Tensor) -> Tags:
        zero = torch.zeros_like(index)
        return Tags(index, self.unit[index], zero, zero)

    def _event(self, row: _Row, unit: int, level: float) -> Event:
        size = self.layout.size
        start, end = unit * size, min((unit + 1) * size, row.prompt + row.length)
        content = self.content[row.number, start:end]
        clean = level <= 0
        if self.open_at_start is not None:
            if clean and self.stop:
                new = self.open_at_start[row.number, start:end].tolist()
                row.stopped = any(t in self.stop for t, fresh in zip(content.tolist(), new, strict=True) if fresh)
            content = content.masked_fill(self.process.open(content), OPEN)
        last = clean and (row.stopped or row.levels.frontier(row.first) == len(row.levels))
        log_prob = None if self.log_prob is None else self.log_prob[row.number, start:end].clone()
        order = None if self.order is None else self.order[row.number, start:end].clone()
        return Event(row.number, unit, start, content.clone(), clean, level, row.forwards, last, log_prob, order)

    def _drawing(self, rows: list[int], units: list[int], steps: list[int]) -> Callable[..., Tensor]:
        def draw(kind: str, *shape: int) -> Tensor:
            return getattr(self.noise, kind)(rows, units, steps, shape)

        return draw


def _check(
    number: int, prompt: Tensor, length: int, process: Process, config: TransformerConfig, layout: Layout
) -> None:
    """Refuse a row that cannot be generated, and say why."""
    if length < 0:
        raise SettingError(f"the length is {length}; pass 0 or more")
    total = layout.units(len(prompt) + length) * layout.size
    if layout.axes == 1 and total > config.max_positions:
        raise SettingError(
            f"row {number}: {len(prompt)} prompt tokens and {length} new ones, in blocks of {layout.size}, exceed the "
            f"model's {config.max_positions} positions; shorten the prompt or the length"
        )
    if process.shift and length and not len(prompt):
        raise SettingError(f"row {number}: the prompt is empty; next-token generation needs at least one token")
    if config.vocab_size and len(prompt):
        low, high = int(prompt.min()), int(prompt.max())
        if low < OPEN or high >= config.vocab_size:
            wrong = low if low < OPEN else high
            raise SettingError(
                f"row {number}: token id {wrong} is outside the vocabulary of {config.vocab_size}; "
                "is it from another tokenizer?"
            )
        if process.shift and bool((prompt == OPEN).any()):
            raise SettingError(
                f"row {number}: next-token generation cannot infill; use a diffusion model, or leave the gap at the end"
            )


def collect(
    events: Iterator[Event], prompts: Sequence[Sequence[int] | Tensor], length: int | Sequence[int], stop: Sequence[int] = ()
) -> list[Result]:
    """Run a stream to its end and return every row: what was generated, cut before the first stop token."""
    known = [torch.as_tensor(p) for p in prompts]
    lengths = [length] * len(known) if isinstance(length, int) else list(length)
    pieces: list[list[Event]] = [[] for _ in known]
    for event in events:
        if event.clean:
            pieces[event.row].append(event)
    results = []
    for prompt, more, found in zip(known, lengths, pieces, strict=True):
        shape = (len(prompt) + more, *(found[0].content.shape[1:] if found else prompt.shape[1:]))
        kind = found[0].content if found else prompt
        row = torch.zeros(shape, dtype=kind.dtype)
        details = bool(found) and found[0].log_prob is not None
        log_prob, order = torch.zeros(len(row)), torch.full((len(row),), -1)
        row[: len(prompt)] = prompt.to(row.dtype)
        end = len(prompt) if more else len(row)
        for event in found:
            stretch = slice(event.start, event.start + len(event.content))
            row[stretch] = event.content.cpu()
            end = max(end, stretch.stop)
            if details and event.log_prob is not None and event.order is not None:
                log_prob[stretch], order[stretch] = event.log_prob.cpu(), event.order.cpu()
        fresh = row[len(prompt) : end]
        stopped = False
        if stop and fresh.dim() == 1:
            hits = torch.isin(fresh, torch.tensor(list(stop))).nonzero()
            stopped = len(hits) > 0
            end = len(prompt) + int(hits[0]) if stopped else end
        new = slice(len(prompt), end)
        forwards = max((event.forwards for event in found), default=0)
        results.append(
            Result(
                row[new], row[:end], forwards, stopped, log_prob[new] if details else None, order[new] if details else None
            )
        )
    return results
