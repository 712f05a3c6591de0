"""What must hold exactly of DiffusionGemma's way of writing text, with `transformers`' sampler as the reference."""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interlace.attention.patterns import Causal, CausalPast, TwoCopy
from interlace.generation import OPEN, Result, collect, generate
from interlace.grid import Noise
from interlace.layouts import Blocks
from interlace.masking import Counted
from interlace.nn import Transformer, TransformerConfig
from interlace.processes import UniformTokens
from interlace.processes.protocol import Turn
from interlace.reveal import DependenceBounded, Proposal
from interlace.schedules import BehindPrompt
from interlace.systems import Parts, find
from interlace.training.batch import Batch
from interlace.training.objectives import TwoCopyLoss

from .conftest import SHAPE, VOCABULARY, fill, same_alone_and_in_a_batch, text_network, tokens, two_copies


@cache
def network() -> Transformer:
    """Untied, so that its likeliest texts vary; sure, and less swayed by single tokens, so that some texts stay."""
    network = fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, tied=False, **SHAPE)))
    with torch.no_grad():
        network.embed.weight.mul_(0.3)
        network.output.weight.mul_(3.0)
    return network


def parts_of(**settings: Any) -> Parts:
    system = find("diffusion-gemma")
    return system.parts(system.settings.but(**settings))


def complete(prompt: Any, length: int, parts: Parts, **options: Any) -> Result:
    return collect(generate(network(), [prompt], length, **parts.sampling, **options), [prompt], length)[0]


def logits_of(row: Tensor, first: int) -> Tensor:
    """Of the canvas behind ``first`` tokens that are read causally, by a dense mask and without a cache."""
    place = torch.arange(len(row))
    mask = (place[None, :] <= place[:, None]) | (place[:, None] >= first)
    return network().head(network()(row[None], place[None], mask[None, None]))[0, first:]


def inverse(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The token at which the cumulated probability passes a number: one loop."""
    found = []
    for row, u in zip(probabilities.double(), uniform.double(), strict=True):
        total = row.cumsum(0)
        found.append(int((total <= u * total[-1]).sum()))
    return torch.tensor(found)


def published(prompt: Tensor, length: int, seed: int, settings: Any) -> tuple[list[int], int]:
    """`transformers`' loop for one row, its sampler, temperature and stopping; numbers come from the grid of noise."""
    reference = pytest.importorskip("transformers.models.diffusion_gemma.generation_diffusion_gemma")
    steps, hot = settings.steps or settings.block_size, settings.temperature
    noise, row, forwards = Noise((seed,), vocabulary=VOCABULARY), prompt, 0

    def draw(kind: str, first: int, size: int, visit: int) -> Tensor:
        return getattr(noise, kind)([0] * size, list(range(first, first + size)), [visit] * size, (1,))[:, 0]

    for first in range(len(prompt), len(prompt) + length, settings.block_size):
        size = min(settings.block_size, len(prompt) + length - first)
        visit = -1

        class Sampler(reference.EntropyBoundSampler):  # type: ignore[misc, name-defined]
            def initialize_canvas(self, batch_size: int, device: Any) -> Tensor:
                return draw("token", first, size, visit)[None]  # noqa: B023

        sampler = Sampler(reference.EntropyBoundSamplerConfig(settings.gamma), size, VOCABULARY, steps)
        cool = reference.LinearTemperatureScheduleLogitsProcessor(settings.cooling * hot, hot, steps)
        stop = reference.StableAndConfidentStoppingCriteria(settings.patience, settings.enough)
        canvas = sampler.initialize_canvas(1, "cpu")
        for left in range(steps, 0, -1):
            visit += 1
            said = cool(None, logits_of(torch.cat((row, canvas[0])), first)[None], left)
            forwards += 1
            drawn = inverse(said[0].softmax(-1), draw("uniform", first, size, visit))[None]
            likeliest = said.argmax(-1)
            accepted = sampler.accept_canvas(canvas, drawn, said, left)
            canvas = sampler.renoise_canvas(accepted, left)
            if stop(likeliest, said).all():
                break
        row = torch.cat((row, likeliest[0]))
    return row[len(prompt) :].tolist(), forwards


def test_the_parts() -> None:
    parts = parts_of()
    objective: Any = parts.objective
    assert parts.pattern == CausalPast() and parts.layout == Blocks(1) and parts.schedule == BehindPrompt(16, 16)
    assert isinstance(objective, TwoCopyLoss) and objective.pattern == TwoCopy(Causal())
    assert objective.layout == Blocks(16) and objective.anywhere and objective.next_token == 1.0
    process: Any = parts.process
    assert process.reveal == DependenceBounded(0.1)
    assert (process.cooling, process.patience, process.enough, process.sampler.temperature) == (0.5, 1, 0.005, 0.8)


@pytest.mark.parametrize("given", [3, 8])
@pytest.mark.parametrize(
    ("block", "steps", "gamma", "patience", "enough"),
    [
        (16, 12, 0.1, 1, 0.005),
        (8, 6, 3.0, 0, 1.2),
        (6, 1, 0.5, 1, 9.0),
        (4, 6, 9.0, 1, 1.8),
        (2, 7, 99.0, 2, 9.0),
        (1, 3, 0.1, 1, 2.0),
        (1, 2, 0.1, 0, 0.5),
    ],
)
def test_whole_generations(block: int, steps: int, gamma: float, patience: int, enough: float, given: int) -> None:
    """Blocks counted from the end of the prompt, wherever that is; some end early, the last may be short."""
    chosen = {"block_size": block, "steps": steps, "gamma": gamma, "patience": patience, "enough": enough}
    settings = find("diffusion-gemma").settings.but(**chosen)
    blocks, taken = math.ceil(16 / block), 0
    for seed in (0, 7, 8):
        prompt = tokens(given, seed=given)
        expected, forwards = published(prompt, 16, seed, settings)
        for fuse in (True, False):
            row = complete(prompt, 16, parts_of(**chosen), seed=seed, fuse=fuse)
            assert row.content.tolist() == expected
            assert row.forwards == forwards + (0 if fuse else blocks)  # the prompt, and every block but the last
        taken += forwards
    assert (taken < 3 * blocks * steps) == (enough > 0.1 and steps > 1)


def test_the_accepted_tokens_are_those_of_the_published_sampler() -> None:
    reference = pytest.importorskip("transformers.models.diffusion_gemma.generation_diffusion_gemma")
    generator = torch.Generator().manual_seed(0)
    said = torch.randn(64, 24, 50, generator=generator) * torch.rand(64, 24, 1, generator=generator) * 12
    entropy = -(said.softmax(-1) * said.log_softmax(-1)).sum(-1)
    every, none = torch.ones(64, 24, dtype=torch.bool), torch.zeros(64, dtype=torch.long)
    counts = set()
    for gamma in (0.01, 0.1, 1.0, 5.0):
        sampler = reference.EntropyBoundSampler(reference.EntropyBoundSamplerConfig(gamma), 24, 50, 1)
        sampler.accept_canvas(torch.zeros(64, 24), torch.ones(64, 24), said, 1)
        drawn: Any = SimpleNamespace(entropy=entropy.flatten())
        found = DependenceBounded(gamma)(Proposal(every, drawn, none, none, 1))
        assert torch.equal(found, sampler.accepted_token_mask)
        counts |= set(found.sum(1).tolist())
    assert len(counts) > 6


@pytest.mark.parametrize("patience", [0, 1, 2, 3])
def test_a_block_ends_when_the_published_one_does(patience: int) -> None:
    """Predictions that wander, then stay; one of them back for a step."""
    reference = pytest.importorskip("transformers.models.diffusion_gemma.generation_diffusion_gemma")
    generator = torch.Generator().manual_seed(1)
    pool = torch.randn(3, 5, VOCABULARY, generator=generator) * 6
    for order in ([0, 1, 1, 2, 2, 2, 2, 2], [0, 0, 1, 0, 0, 0, 0, 1], [0, 1, 2, 0, 1, 2, 0, 1]):
        for enough in (0.05, 0.6, 2.0):
            stop = reference.StableAndConfidentStoppingCriteria(patience, enough)
            process = UniformTokens(patience=patience, enough=enough)
            noise = Noise((0,), vocabulary=VOCABULARY)
            x, carry = torch.full((1, 5), ~0), None
            for step, number in enumerate(order):
                said = pool[number] * (1 + 0.1 * step)

                def draw(kind: str, *shape: int, at: int = step, noise: Noise = noise) -> Tensor:
                    return getattr(noise, kind)([0], [0], [at], shape)

                after = process.advance(x, said.clone(), Turn(torch.tensor([step]), 99, draw, carry))
                ended = bool(stop(said.argmax(-1)[None], said[None]))
                assert (process.level(after.x) == 0).tolist() == [ended]
                if ended:
                    break
                x, carry = after.x, after.carry


@pytest.mark.parametrize("size", [1, 4, 8])
@pytest.mark.parametrize("fuse", [True, False])
def test_training_and_sampling_see_the_same(size: int, fuse: bool, predictions: list[Tensor]) -> None:
    """Noisy logits of every block in the two-copy row = those of the random block behind the clean ones before."""
    parts = parts_of(block_size=size)
    clean, pattern = tokens(16), parts.objective.pattern  # type: ignore[attr-defined]
    noisy = Noise((0,), vocabulary=VOCABULARY).token([0] * 16, list(range(16)), [-1] * 16, (1,))[:, 0]
    trained, causal = two_copies(text_network(), Blocks(size), pattern, noisy, clean)
    close = {"rtol": 0, "atol": 1e-5 * float(trained.abs().max())}
    for first in range(0, 16, size):
        predictions.clear()
        next(generate(text_network(), [clean[:first]], size, **parts.sampling, drafts=True, fuse=fuse))
        torch.testing.assert_close(predictions[0], trained[first : first + size], **close)
    index = torch.arange(16)
    plain = text_network().head(text_network()(clean[None], index[None], (index <= index[:, None])[None, None]))[0]
    torch.testing.assert_close(causal, plain, **close)  # the past is what an autoregressive model reads


@pytest.mark.parametrize("counted", [False, True])
def test_the_loss(counted: bool) -> None:
    """The cross-entropy of every token of the noisy copy, and of the next token in the clean one, alike."""
    parts = parts_of(block_size=4)
    objective: Any = parts.objective
    if counted:
        objective = TwoCopyLoss(
            parts.process, Blocks(4), TwoCopy(Causal()), masking=Counted(), next_token=1.0, anywhere=True
        )
    clean = tokens(12)
    data = Batch(clean[None], torch.zeros(1, 12, dtype=torch.long), torch.arange(12)[None], [5])
    ahead = int(Noise((1,)).uniform([0], [4 * 5 + 3], [2], ())[0] * 4)
    level, noise, _ = objective.draw(data, 1, 2, VOCABULARY)
    noisy = parts.process.corrupt(clean, level[0], noise[0])
    index = torch.arange(12)
    unit = (index + ahead) // 4
    sees = torch.zeros(24, 24, dtype=torch.bool)
    sees[:12, :12] = unit == unit[:, None]
    sees[:12, 12:] = unit < unit[:, None]
    sees[12:, 12:] = index <= index[:, None]
    both = torch.cat((noisy, clean))
    said = network().head(network()(both[None], index.repeat(2)[None], sees[None, None]))[0]
    denoised = F.cross_entropy(said[:12], clean, reduction="sum")
    following = F.cross_entropy(said[12:-1], clean[1:], reduction="sum")
    found = objective(network(), data, 1, 2)
    assert found.count == 12 and found.parts["learnt"] == 12
    torch.testing.assert_close(found.total, (denoised + following) / 2)
    if counted:  # so many of a unit are random, whatever they are
        groups = [(unit == u).nonzero()[:, 0] for u in unit.unique()]
        assert all(round(float(level[0, g[0]]) * len(g)) == int((noise[0, g] % 1 < level[0, g]).sum()) for g in groups)


def test_which_tokens_fall_says_nothing_of_what_they_become() -> None:
    rows = torch.zeros(64, 16, dtype=torch.long)
    data = Batch(rows, rows, torch.arange(16).repeat(64, 1), list(range(64)))
    _, noise, _ = parts_of().objective.draw(data, 0, 0, VOCABULARY)  # type: ignore[attr-defined]
    token, number = noise.floor().flatten(), (noise % 1).flatten()
    assert abs(torch.corrcoef(torch.stack((token, number)))[0, 1]) < 0.15
    assert (token.long().bincount(minlength=VOCABULARY) > 10).all() and len(number.unique()) > 1000


@pytest.mark.parametrize("memory", ["exact", "none"])
def test_a_row_in_a_batch_is_the_row_alone(memory: str) -> None:
    parts = parts_of(block_size=4, enough=1.8, gamma=2.0)
    same_alone_and_in_a_batch(network(), parts, [0, 4, 11, 4], [9, 16, 6, 16], memory=memory)


def test_a_gap_is_filled_and_what_is_known_stays() -> None:
    before, after = tokens(4).tolist(), tokens(6, seed=9).tolist()
    parts, logs = parts_of(block_size=4), []
    for end in (after, [(after[0] + 1) % VOCABULARY, *after[1:]]):
        row = [*before, OPEN, OPEN, *end]
        done = collect(generate(network(), [row], 0, **parts.sampling, details=True, seed=3), [row], 0, starts=[4])[0]
        assert done.content.tolist()[2:] == end and (done.content >= 0).all()
        assert done.log_prob is not None
        logs.append(done.log_prob[:2])
    assert (logs[0] - logs[1]).abs().max() > 1e-5  # the gap sees what lies behind it in its block


def test_rows_with_gaps_in_other_places_see_their_own_past() -> None:
    """Equal slices, other clean tokens: a mask of its own for every row."""
    parts = parts_of(block_size=8)
    full = tokens(8, seed=2).tolist()
    rows = [[*full[:i], OPEN, *full[i + 1 :]] for i in (0, 3, 7)]
    together = collect(generate(network(), rows, 0, **parts.sampling, details=True), rows, 0, starts=[0] * 3)
    for row, one in zip(rows, together, strict=True):
        alone = collect(generate(network(), [row], 0, **parts.sampling, details=True), [row], 0, starts=[0])[0]
        assert alone.content.tolist() == one.content.tolist()
        assert one.log_prob is not None and alone.log_prob is not None
        torch.testing.assert_close(one.log_prob, alone.log_prob, rtol=0, atol=1e-5)


def test_drafts_are_open_until_their_block_is_done() -> None:
    prompt = tokens(5)
    for event in generate(network(), [prompt], 8, **parts_of(block_size=4).sampling, drafts=True):
        assert event.clean == bool((event.content != OPEN).all()) and (event.level == 0) == event.clean


def test_a_small_network_learns_to_count() -> None:
    """Rows of n, n + 1, ... modulo 16: right, several tokens a forward; one step alone is worse, and it is still AR."""
    shape = SHAPE | {"hidden_size": 48, "intermediate_size": 96, "head_dim": 12}
    taught = Transformer(TransformerConfig(vocab_size=17, **shape)).initialise(torch.Generator().manual_seed(0))
    parts = parts_of(block_size=4, enough=0.1)
    optimizer = torch.optim.AdamW(taught.parameters(), 1e-2)
    for step in range(110):
        start = torch.randint(0, 16, (16, 1), generator=torch.Generator().manual_seed(step))
        rows = (start + torch.arange(24)) % 16
        index = torch.arange(24).repeat(16, 1)
        batch = Batch(rows, torch.zeros_like(rows), index, list(range(16 * step, 16 * step + 16)))
        total, count, _ = parts.objective(taught, batch, 0, step)
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(taught.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    taught.eval()
    prompts = [[(n + i) % 16 for i in range(6)] for n in range(16)]

    def right(parts: Parts) -> tuple[int, float]:
        found = collect(generate(taught, prompts, 16, **parts.sampling), prompts, 16)
        counted = [[(prompt[-1] + 1 + i) % 16 for i in range(16)] for prompt in prompts]
        good = sum(row.content.tolist() == texts for row, texts in zip(found, counted, strict=True))
        return good, sum(row.tokens_per_forward for row in found) / len(found)

    several, speed = right(parts)
    assert several >= 14 and speed > 1.4
    once, fastest = right(parts_of(block_size=4, steps=1))
    assert once < several and fastest == 4
    assert right(find("ar").parts(find("ar").settings))[0] >= 14
