"""A cache changes nothing: for every path, pattern and network, the same predictions and the same rows as without."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interlace.attention.patterns import Bidirectional, BlockCausal, Causal, PrefixBidirectional
from interlace.layouts import Blocks, Frames
from interlace.memory import ExactKV, kinds
from interlace.processes import AbsorbingMask, FlowMatching, Gaussian, NextToken
from interlace.reveal import Dynamic, Static
from interlace.sampling import Sampler
from interlace.schedules import AllAtOnce, BlockByBlock, Diagonal, LevelByLevel, TokenByToken
from interlace.solvers import DDIM, Ancestral, DPMSolver2M

from .conftest import CLASSES, MASK, Watch, feature_network, features, run, same, text_network, tokens

STATIC, DYNAMIC = AbsorbingMask(MASK, Static()), AbsorbingMask(MASK, Dynamic(0.3))
DRAWN = AbsorbingMask(MASK, Dynamic(0.3), Sampler(0.9, top_k=20, top_p=0.95))
SHIFTED = AbsorbingMask(MASK, Static(), shift=1)
PATHS: list[Any] = [
    ("static", STATIC, BlockByBlock(4), BlockCausal(), 4),
    ("dynamic", DYNAMIC, BlockByBlock(2), BlockCausal(), 4),
    ("drawn", DRAWN, BlockByBlock(3), BlockCausal(), 4),
    ("one-step", STATIC, BlockByBlock(1), BlockCausal(), 8),
    ("single", STATIC, BlockByBlock(1), BlockCausal(), 1),
    ("shifted", SHIFTED, BlockByBlock(4), BlockCausal(), 4),
    ("level", STATIC, LevelByLevel(2), BlockCausal(), 4),
    ("diagonal", STATIC, Diagonal(4, window=3, lag=1), BlockCausal(), 4),
    ("diagonal-drawn", DRAWN, Diagonal(3, window=2, lag=2), BlockCausal(), 4),
    ("all", STATIC, AllAtOnce(3), BlockCausal(), 4),
    ("causal-blocks", STATIC, BlockByBlock(2), Causal(), 4),
    ("prefix", STATIC, BlockByBlock(2), PrefixBidirectional(2), 4),
    ("full", STATIC, AllAtOnce(4), Bidirectional(), 4),
    ("next", NextToken(), TokenByToken(), Causal(), 1),
    ("next-drawn", NextToken(Sampler(1.0)), TokenByToken(), Causal(), 1),
]
PROMPTS = [tokens(6), tokens(1, 1), tokens(12, 2)]


def agree(network: Any, monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> list[tuple[int, int]]:
    """Generate with and without a cache, compare every prediction, and return what was fed with it."""
    watch = Watch(network, monkeypatch)
    cached = run(network, *args, **options)
    with_cache, fed = watch.take()
    plain = run(network, *args, memory="none", **options)
    without, whole = watch.take()
    assert len(with_cache) == len(without)
    scale = max(prediction.abs().max().item() for prediction in without)
    assert scale > 0.5, "predictions near zero would agree by chance"
    for one, other in zip(with_cache, without, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * scale)
    for one, other in zip(cached, plain, strict=True):
        same(one, other)
        assert one.forwards == other.forwards
    assert sum(n for _, n in fed) <= sum(n for _, n in whole)
    return fed


@pytest.mark.parametrize("kind", ["grouped", "biases", "experts"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[0])
def test_text(path: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, process, schedule, pattern, size = path
    options: dict[str, Any] = {"layout": Blocks(size), "pattern": pattern, "seed": [0, 1, 2]}
    agree(text_network(kind), monkeypatch, PROMPTS, 11, process, schedule, **options)


CONTINUOUS: list[Any] = [
    ("flow", FlowMatching(DDIM()), BlockByBlock(3)),
    ("flow-2m", FlowMatching(DPMSolver2M()), BlockByBlock(4)),
    ("gaussian-2m", Gaussian(DPMSolver2M()), BlockByBlock(3)),
    ("ancestral", Gaussian(Ancestral()), BlockByBlock(3)),
    ("flow-diagonal", FlowMatching(DPMSolver2M()), Diagonal(4, window=2, lag=2)),
    ("flow-levels", FlowMatching(DDIM()), LevelByLevel(2)),
    ("flow-all", FlowMatching(DDIM()), AllAtOnce(3)),
]


@pytest.mark.parametrize("path", CONTINUOUS, ids=lambda path: path[0])
@pytest.mark.parametrize("layout", [Blocks(4), Frames(4, 2, 1, frames_per_unit=2)], ids=["blocks", "frames"])
def test_features(path: Any, layout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, process, schedule = path
    prompts = [features(4), features(0), features(8, 1)]
    network = feature_network(layout.axes)
    agree(network, monkeypatch, prompts, 8, process, schedule, layout=layout, label=[0, 1, CLASSES], seed=[0, 1, 2])


def test_a_cache_feeds_every_token_as_seldom_as_the_pattern_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next token: the prompt, then one token at a time. Blocks: the block itself, with the one before it once."""
    network = text_network()
    args = [tokens(6)], 10
    fed = agree(network, monkeypatch, *args, NextToken(), TokenByToken(), layout=Blocks(1), pattern=Causal())
    assert fed == [(1, 6)] + [(1, 1)] * 9
    fed = agree(network, monkeypatch, *args, STATIC, BlockByBlock(4))
    assert fed == [(1, 8), (1, 4)] + [(1, 8), *[(1, 4)] * 3] * 2  # two tokens of the first block are given
    fed = agree(network, monkeypatch, *args, STATIC, AllAtOnce(2), pattern=Bidirectional())
    assert fed == [(1, 16)] * 2  # nothing may be committed


class Guarded(ExactKV):
    """A cache that checks before every forward that what was committed has not changed by a bit."""

    checks = 0

    def open(self, ends: list[int], rows: list[int] | None = None) -> int:
        for r, length in enumerate(self.lengths):
            now = self.storage[:, :, r, :, :length]
            before = getattr(self, "snapshot", {}).get(r)
            if before is not None:
                assert torch.equal(now[:, :, :, : before.shape[3]], before)
                Guarded.checks += 1
        return super().open(ends, rows)

    def commit(self, lengths: list[int]) -> None:
        super().commit(lengths)
        self.snapshot = {r: self.storage[:, :, r, :, :n].clone() for r, n in enumerate(lengths)}
        Guarded.seen.append(list(lengths))

    def keep(self, rows: list[int]) -> None:
        super().keep(rows)
        self.snapshot = {r: self.storage[:, :, r, :, :n].clone() for r, n in enumerate(self.lengths)}

    seen: list[list[int]] = []  # noqa: RUF012 - of the class, as the loop makes the instance


def test_denoising_leaves_the_committed_bits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds._OWN, "exact", Guarded)
    for fuse in (True, False):
        Guarded.checks, Guarded.seen = 0, []
        run(text_network(), PROMPTS, 11, DYNAMIC, BlockByBlock(4), fuse=fuse)
        run(feature_network(), [features(4)], 8, FlowMatching(), BlockByBlock(3), label=[1], fuse=fuse)
        assert Guarded.checks > 20
        assert all(length % 4 == 0 for lengths in Guarded.seen for length in lengths)
        assert max(Guarded.seen)[0] > 0


def test_a_block_sees_exactly_its_past_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of 6 in blocks of 4: 4 tokens are committed, and the first block decoded is [p4 p5 M M]: 2 steps."""
    monkeypatch.setitem(kinds._OWN, "exact", Guarded)
    Guarded.seen = []
    (row,) = run(text_network(), [tokens(6)], 2, STATIC, BlockByBlock(4), fuse=False)
    assert Guarded.seen[0] == [4] and row.forwards == 1 + 2
    assert row.order is not None and sorted(row.order.tolist()) == [0, 1]
