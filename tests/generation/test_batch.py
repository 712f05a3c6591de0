"""A row in a batch is what it is alone, whatever its neighbours' lengths, paces, ends and noise."""

from __future__ import annotations

from typing import Any

import pytest

from interlace.attention.patterns import Bidirectional, BlockCausal, Causal
from interlace.layouts import Blocks
from interlace.processes import AbsorbingMask, FlowMatching, NextToken
from interlace.reveal import Ancestral, Dynamic, EntropyBounded, Sequential, Static, Tempered, Threshold
from interlace.sampling import Sampler
from interlace.schedules import AllAtOnce, BlockByBlock, Diagonal, LevelByLevel, TokenByToken
from interlace.solvers import DPMSolver2M

from .conftest import CLASSES, MASK, feature_network, features, run, same, text_network, tokens

# no empty prompt: four masks without context are alike, and rounding alone would choose among them
PROMPTS = [tokens(5), tokens(2, 4), tokens(8, 1), tokens(3, 2), tokens(1, 3)]
LENGTHS = [9, 4, 3, 0, 14]
SEEDS = [7, 8, 9, 10, 11]
RULES = [
    Static(), Dynamic(0.4), Threshold(0.4), Sequential(), EntropyBounded(1.5), Ancestral(), Tempered(Dynamic(0.4), 0.2)
]  # fmt: skip
GREEDY, DRAWN = Sampler(), Sampler(0.8, top_k=12, top_p=0.95)


def alone_and_together(network: Any, prompts: Any, lengths: Any, process: Any, schedule: Any, **options: Any) -> None:
    together = run(network, prompts, lengths, process, schedule, seed=SEEDS[: len(prompts)], **options)
    label = options.pop("label", None)
    for i, row in enumerate(together):
        own = {} if label is None else {"label": [label[i]]}
        (alone,) = run(network, prompts[i : i + 1], lengths[i], process, schedule, seed=SEEDS[i], **own, **options)
        same(row, alone)
        assert row.forwards == alone.forwards


@pytest.mark.parametrize("sampler", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_every_rule(rule: Any, sampler: Sampler) -> None:
    process = AbsorbingMask(MASK, rule, sampler)
    alone_and_together(text_network(), PROMPTS, LENGTHS, process, BlockByBlock(2))


@pytest.mark.parametrize("fuse", [True, False])
def test_rows_at_their_own_pace(fuse: bool) -> None:
    """Experts, an adaptive rule, and rows that commit at different times."""
    process = AbsorbingMask(MASK, Dynamic(0.25), DRAWN)
    alone_and_together(text_network("experts"), PROMPTS, LENGTHS, process, BlockByBlock(4), fuse=fuse)


@pytest.mark.parametrize(
    ("schedule", "pattern"),
    [(AllAtOnce(3), Bidirectional()), (Diagonal(4, 3, 1), BlockCausal()), (LevelByLevel(2), BlockCausal())],
    ids=["full", "diagonal", "levels"],
)
def test_other_paths(schedule: Any, pattern: Any) -> None:
    process = AbsorbingMask(MASK, Static(), DRAWN)
    alone_and_together(text_network(), PROMPTS, LENGTHS, process, schedule, pattern=pattern)


def test_next_token() -> None:
    options = {"layout": Blocks(1), "pattern": Causal()}
    prompts, lengths = [tokens(5), tokens(8, 1), tokens(1, 3)], [9, 3, 14]
    for sampler in (GREEDY, DRAWN):
        alone_and_together(text_network("biases"), prompts, lengths, NextToken(sampler), TokenByToken(), **options)


def test_features() -> None:
    prompts, process = [features(4), features(0), features(8, 1)], FlowMatching(DPMSolver2M())
    for schedule in (BlockByBlock(3), Diagonal(4, 2, 2)):
        alone_and_together(feature_network(), prompts, [8, 12, 4], process, schedule, label=[0, CLASSES, 1])


MASKED = AbsorbingMask(MASK, Dynamic(0.4), DRAWN)
STOPPING: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "blocks": (MASKED, BlockByBlock(4), {}),
    "full": (MASKED, AllAtOnce(6), {"pattern": Bidirectional()}),
    "next": (NextToken(DRAWN), TokenByToken(), {"layout": Blocks(1), "pattern": Causal()}),
}


@pytest.mark.parametrize("path", STOPPING)
def test_stop_tokens_end_rows_at_different_times(path: str) -> None:
    """The row up to the stop token is the one without; what would follow it is never generated."""
    process, schedule, options = STOPPING[path]
    prompts = [tokens(5), tokens(2, 4), tokens(8, 1), tokens(3, 2)]
    lengths, network = [16, 13, 12, 10], text_network(seed=1)
    whole = run(network, prompts, lengths, process, schedule, seed=SEEDS[:4], **options)
    stop = (int(whole[0].content[9]), int(whole[2].content[4]))
    rows = run(network, prompts, lengths, process, schedule, seed=SEEDS[:4], stop=stop, **options)
    ends = set()
    for row, free in zip(rows, whole, strict=True):
        content = free.content.tolist()
        hits = [i for i, token in enumerate(content) if token in stop]
        assert row.stopped == bool(hits)
        assert row.content.tolist() == content[: hits[0] if hits else None]
        assert row.row.tolist() == free.row.tolist()[: len(row.row)]
        assert row.forwards <= free.forwards
        ends.add(hits[0] if hits else None)
    assert len(ends) > 1 and rows[0].stopped and rows[2].stopped
    assert path == "full" or rows[2].forwards < whole[2].forwards
    alone_and_together(network, prompts, lengths, process, schedule, stop=stop, **options)


def test_equal_rows_are_equal_and_seeds_tell_rows_apart() -> None:
    process = AbsorbingMask(MASK, Static(), DRAWN)
    rows = run(text_network(), [tokens(5)] * 3, 12, process, BlockByBlock(4), seed=[3, 3, 4])
    same(rows[0], rows[1])
    assert rows[0].content.tolist() != rows[2].content.tolist()
    one = run(text_network(), [tokens(5)] * 2, 12, process, BlockByBlock(4), seed=3)
    same(one[0], rows[0])
    same(one[1], rows[0])


def test_no_rows() -> None:
    assert run(text_network(), [], 4, AbsorbingMask(MASK), BlockByBlock(4)) == []
