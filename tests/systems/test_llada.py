"""What must hold exactly of LLaDA (arXiv:2502.09992) and Dream (arXiv:2508.15487), and of their stale caches."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.patterns import Bidirectional
from interlace.errors import SettingError
from interlace.generation import OPEN, Result, collect, generate
from interlace.grid import Noise
from interlace.layouts import Blocks
from interlace.memory import ExactKV
from interlace.nn import Transformer, TransformerConfig
from interlace.reveal import Dynamic, Static
from interlace.schedules import BehindPrompt
from interlace.systems import Parts, find
from interlace.training.objectives import OneCopyLoss

from .conftest import MASK, SHAPE, VOCABULARY, fill, same_alone_and_in_a_batch, tokens


@cache
def network() -> Transformer:
    """Untied, so that its greedy texts vary."""
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, tied=False, **SHAPE)))


def parts_of(name: str, **settings: Any) -> Parts:
    system = find(name)
    return system.parts(system.settings.but(mask_id=MASK, **settings))


def complete(prompt: Any, length: int, parts: Parts, **options: Any) -> Result:
    return collect(generate(network(), [prompt], length, **parts.sampling, **options), [prompt], length)[0]


def published(
    prompt: Tensor,
    length: int,
    block: int,
    steps: int,
    threshold: float | None,
    shift: int,
    stale: str,
    alg: str | None = None,
    chance: int | None = None,
    scale: float = 0.0,
    fast: bool = False,
) -> tuple[list[int], int, int]:
    """The published sampler, batch 1, greedy: tokens, forwards, token slots. alg: the order in which Dream reveals.

    chance: a seed, where LLaDA's remasking is "random". scale: LLaDA's cfg_scale. fast: a threshold without a quota.
    """
    total = len(prompt) + length
    row = torch.cat((prompt, torch.full((length,), MASK)))
    forwards = slots = 0
    for begin in range(len(prompt), total, block):
        end = min(begin + block, total)
        quotas = [block // steps + (k < block % steps) for k in range(steps)]
        past, k = ExactKV(2, 1, 2, 8, total), 0
        while (row[begin:end] == MASK).any():
            first, last = (0, total) if k == 0 or stale == "none" else (begin, total if stale == "prefix" else end)
            past.open([total])
            index = torch.arange(first, last)[None]
            said = network().head(network()(row[None, first:last], index, None, past, index))[0]
            if scale:
                bare = torch.cat((torch.full_like(prompt, MASK), row[len(prompt) :]))
                null = network().head(network()(bare[None], index, None))[0]
                said = null + (scale + 1) * (said - null)
                forwards, slots = forwards + 1, slots + total
            said = said.index_fill(1, torch.tensor([MASK]), -torch.inf)
            if shift:
                said = torch.cat((said[:1], said[:-1]))
            probability = said[begin - first : end - first].softmax(-1)
            confidence, token = probability.max(-1)
            if alg == "topk_margin":
                ranked = probability.sort(-1, descending=True).values
                confidence = ranked[:, 0] - ranked[:, 1]
            if alg == "entropy":
                confidence = (probability * (probability + 1e-10).log()).sum(-1)
            if chance is not None:
                size = end - begin
                confidence = Noise((chance,)).order([0] * size, list(range(begin, end)), [k] * size, (1,))[:, 0]
            open = row[begin:end] == MASK
            quota = 1 if fast else quotas[min(k, steps - 1)]
            if alg:
                times = torch.linspace(1, 1e-3, steps + 1)
                left = open.sum()
                quota = int(left * (1 - times[k + 1] / times[k])) if k < steps - 1 else int(left)
            confidence = confidence.masked_fill(~open, -torch.inf)
            fixed = open & (confidence > threshold) if threshold is not None else torch.zeros_like(open)
            if fixed.sum() < quota:  # of Dream the first quota may be 0
                fixed[:] = False
                fixed[confidence.topk(min(quota, len(open))).indices] = True
            row[begin:end] = torch.where(fixed & open, token, row[begin:end])
            forwards, slots, k = forwards + 1, slots + last - first, k + 1
    return row[len(prompt) :].tolist(), forwards, slots


@pytest.mark.parametrize(("name", "shift"), [("llada", 0), ("dream", 1)])
def test_the_parts(name: str, shift: int) -> None:
    parts = parts_of(name)
    objective: Any = parts.objective
    assert parts.pattern == Bidirectional() and parts.layout == Blocks(1) and parts.schedule == BehindPrompt(32, 32)
    assert isinstance(objective, OneCopyLoss) and objective.levels == "document"
    assert objective.process.shift == parts.process.shift == shift
    assert [parts_of(name, cache=c).memory for c in ("none", "prefix", "dual")] == ["none", "prefix", "block"]


@pytest.mark.parametrize("stale", ["none", "prefix", "dual"])
@pytest.mark.parametrize(("block", "steps"), [(16, 16), (8, 8), (8, 3), (4, 2), (16, 1)])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("given", [3, 8])
def test_the_published_sampler(given: int, threshold: float | None, block: int, steps: int, stale: str) -> None:
    """Blocks counted from the end of the prompt, wherever that is."""
    prompt = tokens(given, seed=given)
    expected = published(prompt, 16, block, steps, threshold, 0, stale)
    settings = {"block_size": block, "steps": steps, "threshold": 1.0 if threshold is None else threshold}
    row = complete(prompt, 16, parts_of("llada", **settings, cache=stale, reveal="dynamic"))
    assert (row.content.tolist(), row.forwards, row.slots) == expected


@pytest.mark.parametrize(("block", "steps"), [(8, 8), (8, 3), (16, 1)])
@pytest.mark.parametrize("threshold", [0.2, 0.9])
@pytest.mark.parametrize(
    ("name", "stale"), [("llada", "none"), ("llada", "prefix"), ("llada", "dual"), ("dream", "none")]
)
def test_a_threshold_alone_is_fast_dllm(name: str, threshold: float, block: int, steps: int, stale: str) -> None:
    """Where no rule is named: all that is sure, or the surest, whatever the steps."""
    prompt = tokens(5)
    expected = published(prompt, 16, block, steps, threshold, int(name == "dream"), stale, fast=True)
    row = complete(prompt, 16, parts_of(name, block_size=block, steps=steps, threshold=threshold, cache=stale))
    assert (row.content.tolist(), row.forwards, row.slots) == expected


def test_the_rule_that_is_not_named() -> None:
    rules: list[Any] = [parts_of(name).process for name in ("llada", "dream")]
    assert [process.reveal for process in rules] == [Static(), Static()]
    named: Any = parts_of("llada", threshold=0.5, reveal="dynamic").process
    eoser: Any = parts_of("eoser-ass-cjgrpo", threshold=0.5, eoser=False).process
    assert named.reveal == eoser.reveal == Dynamic(0.5)


@pytest.mark.parametrize("reveal", [None, "static"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("name", ["llada", "eoser-ass-cjgrpo"])
def test_a_candidate_is_drawn_at_a_temperature_and_trusted_without(
    name: str, temperature: float, reveal: str | None
) -> None:
    """Drawn from softmax(logits / T), as Gumbel noise to the power T does; its confidence is softmax(logits)."""
    settings: dict[str, Any] = {"threshold": 0.3} if reveal is None else {"steps": 8}
    if name != "llada":
        settings |= {"ass": False, "eoser": False, "reveal": reveal or "threshold"}
    for seed in range(4):
        prompt, noise = tokens(5, seed=seed), Noise((seed,))
        row, log_prob, step = torch.cat((prompt, torch.full((16,), MASK))), torch.zeros(21), 0
        while (open := [place for place in range(5, 21) if row[place] == MASK]):
            said = network().head(network()(row[None], torch.arange(21)[None]))[0].double()
            said[:, MASK] = -torch.inf
            token, sure = {}, {}
            for place in open:
                passed = (said[place] / temperature).softmax(-1).cumsum(-1)
                token[place] = int((passed <= noise.uniform([0], [place], [step], (1,)).item() * passed[-1]).sum())
                sure[place] = float(said[place].softmax(-1)[token[place]])
            ranked = sorted(open, key=lambda place: -sure[place])
            fixed = ranked[:2] if reveal else [p for p in ranked if sure[p] >= 0.3 or p == ranked[0]]
            for place in fixed:
                row[place], log_prob[place] = token[place], math.log(sure[place])
            step += 1
        parts = parts_of(name, **({"block_size": 16, "temperature": temperature, "reveal": reveal} | settings))
        found = complete(prompt, 16, parts, seed=seed, details=True)
        assert found.content.tolist() == row[5:].tolist() and found.forwards == step
        torch.testing.assert_close(found.log_prob, log_prob[5:], rtol=1e-4, atol=1e-4)


ALGS = [("maskgit_plus", "static"), ("topk_margin", "largest-margin"), ("entropy", "least-uncertain")]


@pytest.mark.parametrize(("alg", "reveal"), ALGS)
@pytest.mark.parametrize(("block", "steps"), [(4, 4), (16, 16), (16, 5), (8, 3), (8, 12)])
def test_the_sampler_of_dream(block: int, steps: int, alg: str, reveal: str) -> None:
    """The token shift, and as many tokens a step as the process would lift on average, rounded down."""
    prompt = tokens(5)
    expected = published(prompt, 16, block, steps, None, 1, "none", alg)
    row = complete(prompt, 16, parts_of("dream", block_size=block, steps=steps, reveal=reveal))
    assert (row.content.tolist(), row.forwards, row.slots) == expected


@pytest.mark.parametrize(("block", "steps"), [(16, 16), (8, 3), (4, 2)])
def test_remasking_at_random(block: int, steps: int) -> None:
    """``remasking="random"`` is the quota in any order."""
    prompt = tokens(5)
    expected = published(prompt, 16, block, steps, None, 0, "none", chance=7)
    parts = parts_of("llada", block_size=block, steps=steps, reveal="static", order_temperature=float("inf"))
    row = complete(prompt, 16, parts, seed=7)
    assert (row.content.tolist(), row.forwards, row.slots) == expected


@pytest.mark.parametrize("name", ["llada", "dream"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("block", "steps"), [(16, 16), (8, 3)])
def test_the_guidance_of_llada(block: int, steps: int, scale: float, name: str) -> None:
    """``cfg_scale`` w is guidance w + 1: logits u + (w + 1) (c - u), u without the prompt; two forwards a step."""
    prompt, shift = tokens(5), int(name == "dream")
    alg = "maskgit_plus" if shift else None
    expected = published(prompt, 16, block, steps, None, shift, "none", alg, scale=scale)
    settings: dict[str, Any] = {"block_size": block, "steps": steps, "guidance": scale + 1}
    row = complete(prompt, 16, parts_of(name, **settings, reveal="static" if shift else "dynamic"))
    assert (row.content.tolist(), row.forwards, row.slots) == expected
    if scale:
        plain = published(prompt, 16, block, steps, None, shift, "none", alg)
        assert plain[0] != expected[0] and 2 * plain[1] == expected[1]


def test_guidance_hides_what_was_known_and_not_what_was_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and behind a gap; in a batch of rows of different lengths, rows are what they are alone."""
    parts = parts_of("llada", block_size=4, guidance=2.5)
    sides = [[tokens(n, seed=n).tolist() for n in pair] for pair in ((1, 9), (4, 2), (8, 0))]
    rows = [[*before, OPEN, OPEN, OPEN, *after] for before, after in sides]
    lengths, shown = [0, 5, 3], []
    batch = collect(generate(network(), rows, lengths, **parts.sampling, details=True), rows, lengths)
    forward = network().forward

    def seen(content: Tensor, *args: Any, **options: Any) -> Tensor:
        shown.append(content[0].clone())
        return forward(content, *args, **options)

    monkeypatch.setattr(network(), "forward", seen)
    for prompt, length, row in zip(rows, lengths, batch, strict=True):
        shown.clear()
        alone = complete(prompt, length, parts, details=True)
        assert row.content.tolist() == alone.content.tolist() and row.forwards == alone.forwards
        assert row.log_prob is not None and alone.log_prob is not None
        torch.testing.assert_close(row.log_prob, alone.log_prob, rtol=0, atol=1e-4)
        known = torch.tensor([token != OPEN for token in prompt] + [False] * length)
        assert len(shown) % 2 == 0 and len(shown) > 2
        for whole, bare in zip(shown[::2], shown[1::2], strict=True):
            assert torch.equal(bare, whole.masked_fill(known, MASK)) and not (whole[known] == MASK).any()


@pytest.mark.parametrize("name", ["llada", "dream", "eoser-ass-cjgrpo"])
def test_no_guidance_is_none_and_a_little_is_a_little(name: str) -> None:
    plain, one = parts_of(name), parts_of(name, guidance=1.0)
    assert one.guide is None is plain.guide
    rows = [complete(tokens(5), 16, parts, details=True) for parts in (plain, one, parts_of(name, guidance=3.0))]
    assert rows[0].log_prob is not None and rows[1].log_prob is not None and rows[2].log_prob is not None
    assert torch.equal(rows[0].log_prob, rows[1].log_prob) and rows[0].content.tolist() == rows[1].content.tolist()
    assert rows[2].forwards == 2 * rows[0].forwards and not torch.equal(rows[0].log_prob, rows[2].log_prob)


def test_where_there_is_no_guidance() -> None:
    """Beside a cache, with a memory, and of systems whose prompt cannot be taken away."""
    for stale in ("prefix", "dual"):
        with pytest.raises(SettingError, match=f"guidance is 2 with cache '{stale}', .*leave one of them out"):
            parts_of("llada", guidance=2.0, cache=stale)
    options = parts_of("llada", guidance=2.0).sampling | {"memory": "exact"}
    with pytest.raises(SettingError, match=r"guidance masks the prompt .*; the memory is 'exact', pass none"):
        generate(network(), [[1]], 4, **options)
    for name in ("sdar", "ar", "diffusion-gemma"):
        with pytest.raises(SettingError, match="unknown setting 'guidance'"):
            parts_of(name, guidance=2.0)


def test_stale_caches_spare_slots_and_are_not_exact() -> None:
    rows = [
        complete(tokens(6), 16, parts_of("llada", block_size=4, cache=c), details=True)
        for c in ("none", "prefix", "dual")
    ]
    assert rows[0].slots > rows[1].slots > rows[2].slots
    assert rows[0].log_prob is not None and rows[2].log_prob is not None
    assert (rows[0].log_prob - rows[2].log_prob).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["llada", "dream"])
@pytest.mark.parametrize("stale", ["none", "prefix", "dual"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_row_in_a_batch_is_the_row_alone(temperature: float, stale: str, name: str) -> None:
    parts = parts_of(name, block_size=4, cache=stale, threshold=0.2, temperature=temperature)
    same_alone_and_in_a_batch(network(), parts, [1, 4, 11], [9, 16, 6])


def test_infilling_anywhere() -> None:
    """Full attention: a gap sees both sides, whole."""
    before, after = tokens(4).tolist(), tokens(6, seed=9).tolist()
    rows = [
        collect(
            generate(network(), [row], 0, **parts_of("llada", block_size=4).sampling, details=True),
            [row],
            0,
            starts=[4],
        )[0]
        for row in ([*before, OPEN, OPEN, *end] for end in (after, [*after[:-1], (after[-1] + 1) % MASK]))
    ]
    assert rows[0].content.tolist()[2:] == after
    assert rows[0].log_prob is not None and rows[1].log_prob is not None
    assert (rows[0].log_prob[:2] - rows[1].log_prob[:2]).abs().max() > 1e-5
