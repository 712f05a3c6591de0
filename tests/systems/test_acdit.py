"""What must hold exactly of ACDiT (arXiv:2412.07720)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.patterns import Tags, dense
from interlace.generation import Event, collect, generate
from interlace.grid import Noise
from interlace.guidance import ClassifierFree
from interlace.layouts import Blocks
from interlace.memory import ExactKV
from interlace.processes import FlowMatching, Gaussian
from interlace.schedules import BlockByBlock
from interlace.solvers import DPMSolver2M
from interlace.systems import Parts, find

from .conftest import CLASSES, FEATURES, features, two_copies, video_network

SIZE, UNITS, STEPS = 4, 3, 3
N = SIZE * UNITS


def acdit(**settings: Any) -> Parts:
    """Clips of 6 frames of 2 x 1 tokens, 2 frames together: three units of four tokens."""
    small = {"frames": 6, "height": 2, "width": 1, "frames_per_unit": 2, "steps": STEPS}
    system = find("acdit")
    return system.parts(system.settings.but(**small | settings))


def scam(parts: Parts) -> Any:
    return parts.objective.pattern  # type: ignore[attr-defined]


def film(prompt: Tensor, length: int, parts: Parts, label: int = 0, seed: int = 7, **options: Any) -> Tensor:
    """The whole row."""
    events = generate(video_network(), [prompt], length, **parts.sampling | {"label": [label], "seed": seed} | options)
    return collect(events, [prompt], length)[0].row


def test_the_parts_are_the_published_ones() -> None:
    parts = acdit()
    assert parts.layout.size == SIZE and parts.layout.units(N) == UNITS
    assert isinstance(parts.process.solver, DPMSolver2M)  # type: ignore[attr-defined]
    assert isinstance(parts.process, FlowMatching) and isinstance(acdit(noise="gaussian").process, Gaussian)
    assert parts.objective.levels == "unit"  # type: ignore[attr-defined]
    assert find("acdit").parts(find("acdit").settings).schedule.steps == 25


def test_the_skip_causal_mask() -> None:
    """Three blocks, the clean copy first: 100000 110000 111000 000100 100010 110001, every entry a square."""
    parts = acdit()
    row = zip(parts.layout.tags(N), parts.layout.tags(N, copy=1), strict=True)
    matrix = dense(scam(parts), Tags(*(torch.cat(pair) for pair in row)))
    entries = ["100000", "110000", "111000", "000100", "100010", "110001"]
    small = torch.tensor([[int(entry) for entry in line] for line in entries])
    assert torch.equal(matrix.long(), torch.kron(small, torch.ones(SIZE, SIZE, dtype=torch.long)))


@pytest.mark.parametrize("noise", ["flow", "gaussian"])
@pytest.mark.parametrize("given", [0, SIZE])
def test_cached_steps_are_those_of_one_two_copy_forward(given: int, noise: str, predictions: list[Tensor]) -> None:
    """The fused first step and every later one: noisy unit i of the training row, given the same clean units."""
    parts = acdit(noise=noise)
    events: list[Event] = list(
        generate(
            video_network(), [features(given)], N - given, **parts.sampling, label=[1], seed=7, drafts=True
        )
    )  # fmt: skip
    said = list(predictions)
    assert len(said) == len(events) == (N - given) // SIZE * STEPS
    clean = features(given)
    for event in events:
        clean = torch.cat((clean, event.content)) if event.clean else clean
    label, k = torch.tensor([[1]]), 0
    for unit in range(given // SIZE, UNITS):
        at = slice(unit * SIZE, (unit + 1) * SIZE)
        state = Noise((7,)).normal([0], [unit], [-1], (SIZE, FEATURES))[0]
        for step in range(STEPS):
            noisy, level = features(N, seed=5), torch.rand(N, generator=torch.Generator().manual_seed(6))
            noisy[at], level[at] = state, 1 - step / STEPS
            other = clean.clone()
            other[at.start :] = 3.0  # neither its own clean copy nor a later one is seen
            expected, _ = two_copies(video_network(), parts.layout, scam(parts), noisy, other, level=level, label=label)
            torch.testing.assert_close(said[k], expected[at], rtol=0, atol=5e-5 * float(expected.abs().max()))
            state = events[k].content
            k += 1


def test_a_plain_sampler_gives_the_same_clip() -> None:
    """Unit after unit, no cache: DPM-Solver++(2M) written out, its history forgotten at every unit."""
    parts, steps = acdit(steps=5), 5
    clean = torch.zeros(0, FEATURES)
    for unit in range(UNITS):
        x = Noise((7,)).normal([0], [unit], [-1], (SIZE, FEATURES))[0]
        before: Tensor | None = None
        for k in range(steps):
            t, to = 1 - k / steps, 1 - (k + 1) / steps
            n = len(clean) + SIZE
            mask = torch.tensor([[j // SIZE <= i // SIZE for j in range(n)] for i in range(n)])[None, None]
            level = torch.cat((torch.zeros(len(clean)), torch.full((SIZE,), t)))[None]
            hidden = video_network()(
                torch.cat((clean, x))[None], parts.layout.positions(torch.arange(n))[None], mask,
                level=level, label=torch.zeros(1, n, dtype=torch.long),
            )  # fmt: skip
            guess = x - t * video_network().head(hidden)[0, -SIZE:]
            direction = guess
            if before is not None and k > 1 and to > 0:
                lam = [math.log((1 - s) / s) for s in (1 - (k - 1) / steps, t, to)]
                r = (lam[1] - lam[0]) / (lam[2] - lam[1])
                direction = (1 + 1 / (2 * r)) * guess - 1 / (2 * r) * before
            x = to / t * x + ((1 - to) - (1 - t) * to / t) * direction
            before = guess
        clean = torch.cat((clean, x))
    torch.testing.assert_close(film(features(0), N, parts), clean, rtol=0, atol=1e-4)


def test_cached_keys_do_not_depend_on_level_label_or_guidance(memories: list[ExactKV]) -> None:
    """Bit for bit, so one cache serves all: clean tokens pass the weights unmodulated."""
    prompt = features(2 * SIZE)
    for label, guide in ((0, None), (1, None), (CLASSES, None), (1, ClassifierFree(3.0, CLASSES))):
        film(prompt, SIZE, acdit(), label, seed=label, guide=guide)
    kept = [memory.storage[:, :, :, :, : 2 * SIZE] for memory in memories]
    assert all(memory.lengths == [2 * SIZE] for memory in memories) and kept[0].abs().max() > 0.5
    for other in kept[1:]:
        assert torch.equal(kept[0], other)


def test_one_unit_is_full_diffusion() -> None:
    """A single unit: plain bidirectional attention over the noisy tokens, whatever the clean copy."""
    parts = acdit(frames_per_unit=6)
    noisy, level, label = features(N), torch.full((N,), 0.4), torch.tensor([[1]])
    said = [
        two_copies(video_network(), parts.layout, scam(parts), noisy, features(N, seed), level=level, label=label)[0]
        for seed in (1, 2)
    ]
    assert torch.equal(*said)
    network = video_network()
    positions = parts.layout.positions(torch.arange(N))[None]
    plain = network.head(network(noisy[None], positions, None, level=level[None], label=label.expand(1, N)))[0]
    torch.testing.assert_close(said[0], plain, rtol=0, atol=1e-5)


def test_units_of_one_token_make_the_clean_copy_a_causal_transformer() -> None:
    network, clean, n = video_network(1), features(6), 6
    _, said = two_copies(
        network, Blocks(1), scam(acdit()), features(6, 1), clean, level=torch.full((n,), 0.3), label=torch.tensor([[0]])
    )
    mask = torch.ones(n, n).tril().bool()[None, None]
    plain = network.head(network(clean[None], torch.arange(n)[None], mask))[0]
    torch.testing.assert_close(said, plain, rtol=0, atol=1e-5)


def test_what_a_change_of_a_unit_changes() -> None:
    """Noisy unit i: output i alone. Clean unit i: outputs behind i alone, so the last one none at all."""
    parts = acdit()
    noisy, clean = features(N), features(N, 1)
    told = {"level": torch.rand(N, generator=torch.Generator().manual_seed(2)), "label": torch.tensor([[0]])}

    def outputs(noisy: Tensor, clean: Tensor) -> list[Tensor]:
        return list(two_copies(video_network(), parts.layout, scam(parts), noisy, clean, **told)[0].split(SIZE))

    base = outputs(noisy, clean)
    for i in range(UNITS):
        change = torch.zeros(N, FEATURES)
        change[i * SIZE + 1] = 1.0
        by_noisy = [not torch.equal(*pair) for pair in zip(base, outputs(noisy + change, clean), strict=True)]
        by_clean = [not torch.equal(*pair) for pair in zip(base, outputs(noisy, clean + change), strict=True)]
        assert by_noisy == [j == i for j in range(UNITS)]
        assert by_clean == [j > i for j in range(UNITS)]


def test_guidance() -> None:
    said = torch.tensor([[1.0, 2.0], [5.0, 6.0], [0.5, 0.0]])
    guide = ClassifierFree(1.5, null=2)
    told = guide.told(torch.tensor([0, 1]))
    assert [(label.tolist(), hide) for label, hide in told if label is not None] == [([0, 1], False), ([2, 2], False)]
    guided = guide([said[label] for label, _ in told])
    assert guided.tolist() == [[0.5 + 1.5 * 0.5, 3.0], [0.5 + 1.5 * 4.5, 9.0]]
    parts = acdit()
    conditional, null = film(features(SIZE), SIZE, parts, 1), film(features(SIZE), SIZE, parts, CLASSES)
    assert not torch.allclose(conditional, null, atol=1e-2)
    for scale, expected in ((1.0, conditional), (0.0, null)):
        guide = ClassifierFree(scale, CLASSES)
        torch.testing.assert_close(film(features(SIZE), SIZE, parts, 1, guide=guide), expected)


def test_a_guided_clip_takes_a_plain_combination_every_step() -> None:
    """One unit, flow, order 1: x <- x + (t' - t) (null + w (label - null)), both branches from the same state."""
    parts = acdit(frames=2, solver="ddim")
    x, network = Noise((7,)).normal([0], [0], [-1], (SIZE, FEATURES))[0], video_network()
    positions = parts.layout.positions(torch.arange(SIZE))[None]
    for k in range(STEPS):
        level = torch.full((1, SIZE), 1 - k / STEPS)
        with_label, null = (
            network.head(network(x[None], positions, None, level=level, label=torch.full((1, SIZE), c)))[0]
            for c in (1, CLASSES)
        )
        x = x - (null + 2.5 * (with_label - null)) / STEPS
    guided = film(features(0), SIZE, parts, 1, guide=ClassifierFree(2.5, CLASSES))
    torch.testing.assert_close(guided, x, rtol=1e-4, atol=1e-4)


def test_a_longer_clip_than_trained_for_streams_on() -> None:
    """A stream may run longer than the layout's sample: the first units are those of the shorter one."""
    parts = acdit()
    short, long = film(features(0), N, parts), film(features(0), 2 * N, parts)
    torch.testing.assert_close(long[:N], short, rtol=0, atol=1e-5)


def test_steps_are_those_of_the_schedule() -> None:
    assert acdit(steps=9).schedule == BlockByBlock(9)
