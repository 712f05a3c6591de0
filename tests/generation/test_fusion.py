"""Fused commits: the same rows, one forward fewer per block; and how many forwards a row takes in all."""

from __future__ import annotations

import pytest

from interlace.attention.patterns import Causal
from interlace.guidance import ClassifierFree
from interlace.layouts import Blocks
from interlace.processes import AbsorbingMask, FlowMatching, NextToken
from interlace.reveal import Dynamic, Static
from interlace.sampling import Sampler
from interlace.schedules import BlockByBlock, Diagonal, TokenByToken

from .conftest import CLASSES, MASK, Watch, feature_network, features, run, same, text_network, tokens

STATIC = AbsorbingMask(MASK, Static())


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize(("prompt", "given"), [(0, 0), (8, 8), (11, 11)])
def test_static_takes_a_forward_per_token_and_a_commit_per_block(
    size: int, prompt: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps = block size: one forward for every open token. A commit of its own for the prompt's whole blocks and for
    every finished block but the last, after which nothing comes; fused commits cost nothing."""
    network = text_network()
    watch = Watch(network, monkeypatch)
    length = 24 - prompt
    fused, unfused = (
        run(network, [tokens(prompt)], length, STATIC, BlockByBlock(size), layout=Blocks(size), fuse=fuse)[0]
        for fuse in (True, False)
    )
    same(fused, unfused)
    first = given // size
    commits = (first > 0) + 24 // size - first - 1
    assert fused.forwards == length
    assert unfused.forwards == length + commits
    assert len(watch.take()[1]) == fused.forwards + unfused.forwards


@pytest.mark.parametrize("rule", [Static(), Dynamic(0.3)], ids=repr)
@pytest.mark.parametrize("kind", ["grouped", "biases", "experts"])
def test_fused_is_unfused(kind: str, rule: Static | Dynamic) -> None:
    process = AbsorbingMask(MASK, rule, Sampler(0.8))
    prompts = [tokens(6), tokens(2, 4), tokens(9, 1)]
    fused, unfused = (
        run(text_network(kind), prompts, 10, process, BlockByBlock(3), fuse=fuse) for fuse in (True, False)
    )
    for one, other in zip(fused, unfused, strict=True):
        same(one, other)
        assert one.forwards < other.forwards


def test_fused_is_unfused_for_features_and_along_a_diagonal() -> None:
    for schedule in (BlockByBlock(3), Diagonal(4, 2, 2)):
        fused, unfused = (
            run(feature_network(), [features(4), features(0)], 8, FlowMatching(), schedule, label=[0, 1], fuse=fuse)
            for fuse in (True, False)
        )
        for one, other in zip(fused, unfused, strict=True):
            same(one, other)
            assert one.forwards < other.forwards


def test_steps_are_an_upper_bound_for_an_adaptive_rule() -> None:
    fast, slow = (
        run(text_network(), [tokens(4)], 16, AbsorbingMask(MASK, Dynamic(t)), BlockByBlock(4))[0] for t in (0.0, 1.0)
    )
    assert fast.forwards == 4 and slow.forwards == 16  # everything at once; one by one
    assert fast.tokens_per_forward == 4.0 and slow.tokens_per_forward == 1.0


def test_dynamic_with_a_threshold_of_one_is_static() -> None:
    for steps in (1, 2, 3, 4):
        rows = [
            run(text_network(), [tokens(6)], 11, AbsorbingMask(MASK, rule), BlockByBlock(steps))[0]
            for rule in (Static(), Dynamic(1.0))
        ]
        same(*rows)
        assert rows[0].forwards == rows[1].forwards


def test_next_token_has_nothing_to_fuse() -> None:
    for fuse in (True, False):
        options = {"layout": Blocks(1), "pattern": Causal(), "fuse": fuse}
        (row,) = run(text_network(), [tokens(5)], 7, NextToken(), TokenByToken(), **options)
        assert row.forwards == 7 and row.tokens_per_forward == 1.0


def test_guidance_takes_two_forwards_a_step() -> None:
    for scale, forwards in ((1.0, 6), (2.0, 12)):
        guide = ClassifierFree(scale, null=CLASSES)
        (row,) = run(feature_network(), [features(0)], 8, FlowMatching(), BlockByBlock(3), label=[0], guide=guide)
        assert row.forwards == forwards
