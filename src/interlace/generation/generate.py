"""``generate``: the walk that the parts ask for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..arrangements import Arrangement
from ..attention.patterns import Pattern
from ..constraints import Automaton
from ..errors import SettingError
from ..grid import Schedule
from ..lookahead import Lookahead
from ..processes import Process
from .ahead import WalkAhead
from .events import Event
from .walk import Guide, Walk

if TYPE_CHECKING:
    from ..layouts import Layout
    from ..nn import Transformer

__all__ = ["generate"]


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
    arrangement: Arrangement | None = None,
    lookahead: Lookahead | None = None,
    stop: Sequence[int] = (),
    seed: int | Sequence[int] = 0,
    label: Sequence[int] | None = None,
    guide: Guide | None = None,
    drafts: bool = False,
    fuse: bool = True,
    details: bool = False,
    places: Sequence[Tensor] | None = None,
    constraints: Sequence[Automaton | None] = (),
    ended: Collection[int] = (),
) -> Iterator[Event]:
    """Generate ``length`` tokens behind every prompt; yield each unit as it becomes clean.

    A row in a batch gives the tokens, in the steps and forwards, that it gives alone: rows never see each other, every
    row walks at its own pace, and its noise is indexed by (its seed, unit, step). Its log-probabilities, and features
    of continuous units, are those up to rounding: the order in which a matrix product sums depends on the shape of the
    batch. In float32 the last bits differ, in bfloat16 the second digit may, and where two candidates, or a confidence
    and its threshold, are nearer than that, a token may. ``interlace.engine`` is equal to the bit, on a processor and
    without experts.

    Args:
        prompts: one per row: token ids (``OPEN`` = -1 marks tokens to infill), or features [n, d] of known units.
        length: tokens to generate behind the prompt, one number or one per row; 0 only fills what is open. The last
            unit is denoised whole, as it was trained and published: a length that ends inside it costs the same
            forwards as one that ends with it, and what is behind the length is cut off.
        layout, process, schedule, pattern: the system (see ``interlace.systems``).
        memory: "exact" (keys and values kept), "block" (inside a block of several units the other units' keys may be
            stale), "prefix" (those before it may be stale) or "none" (everything recomputed; the reference).
        arrangement: the physical order of the tokens that a forward is given, if not that of their places; the pattern
            judges by it, so what it puts first can be committed first.
        lookahead: masks that a forward is given besides the row, whose predictions the process drafts from; what it
            carries from step to step are drafts, shown in place of open tokens.
        stop: token ids that end a row, after the unit in which they appear behind the prompt.
        seed: one seed for every row, or one per row. label: class of every row, for conditional networks.
        guide: how predictions of several forwards a step are combined (``interlace.guidance``).
        drafts: also yield units that are still noisy, after every step.
        fuse: feed a clean unit together with the next unit's first step; False spends a forward of its own on it.
        details: record log-probabilities and the order of reveal.
        places: for every row, the positions of its tokens int64 [n (, axes)], when they are not those of the layout (a
            row that is read in another order than it is written in); units are always cut along the row.
        constraints: for every row, what the new tokens up to the stop token must be a text of, or the one gap of open
            tokens inside its prompt (``interlace.constraints``). Without a stop token the length is filled exactly.
        ended: rows that nobody wants any more, looked at before every move: a caller adds to it as events come.

    Raises:
        SettingError: nothing to generate from, a length below 0, a row longer than the network's positions, a prompt
            or a label that the network does not know, or parts that do not fit each other; a constraint that cannot be
            met in so many tokens, or held on this path.
    """
    count = len(prompts)
    lengths = [length] * count if isinstance(length, int) else list(length)
    seeds = [seed] * count if isinstance(seed, int) else list(seed)
    if len(lengths) != count or len(seeds) != count or (label is not None and len(label) != count):
        raise SettingError(f"{count} prompts need {count} lengths, seeds and labels; pass one, or one per row")
    if places is not None and len(places) != count:
        raise SettingError(f"{count} prompts and {len(places)} rows of places; pass one per row")
    if len(constraints) not in (0, count):
        raise SettingError(
            f"{count} prompts and {len(constraints)} constraints; pass one per row, None where there is none"
        )
    parts = network, layout, process, schedule, pattern, arrangement, guide, drafts, fuse, details, label is not None
    walk = Walk(*parts) if lookahead is None else WalkAhead(lookahead, *parts)
    known = [walk.known(prompt) for prompt in prompts]
    needs = [walk.needs(one, more, number) for number, (one, more) in enumerate(zip(known, lengths, strict=True))]
    walk.reserve(count, max(needs, default=0))
    rows = [
        walk.add(
            known[number],
            lengths[number],
            seeds[number],
            None if label is None else label[number],
            tuple(stop),
            places[number] if places else None,
            constraints[number] if constraints else None,
        )
        for number in range(count)
    ]
    walk.furnish(memory)
    return walk.run(rows, ended)
