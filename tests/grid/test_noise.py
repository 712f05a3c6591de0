"""Noise belongs to a point (seed, unit, step) of the grid, whatever else is drawn, and when."""

from __future__ import annotations

import hashlib
import struct
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace import grid
from interlace.grid import Noise, library

KINDS = ["uniform", "normal", "token", "order"]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(st.permutations(list(product(range(2), range(2), range(3)))), st.integers(1, 6))
def test_order_and_batching_of_the_calls_change_nothing(
    kind: str, points: list[tuple[int, int, int]], batch: int
) -> None:
    noise = Noise((3, -11), vocabulary=99)
    draw = getattr(noise, kind)
    grouped = [points[i : i + batch] for i in range(0, len(points), batch)]
    together = torch.cat([draw(*map(list, zip(*group, strict=True)), (2, 3)) for group in grouped])
    fresh = [getattr(Noise((3, -11), vocabulary=99), kind) for _ in points]
    alone = torch.cat([one([r], [u], [s], (2, 3)) for one, (r, u, s) in zip(fresh, points, strict=True)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_every_point_has_noise_of_its_own(kind: str) -> None:
    rows, units, steps = zip(*product(range(2), range(3), range(4)), strict=True)
    drawn = getattr(Noise((0, 1), vocabulary=1000), kind)(rows, units, steps, (5,))
    assert drawn.shape == (24, 5)
    assert drawn.dtype == (torch.long if kind == "token" else torch.float32)
    assert len({tuple(row) for row in drawn.tolist()}) == 24


def test_a_row_draws_by_its_seed_not_by_its_place() -> None:
    one = Noise((7,)).normal([0], [2], [1], (4,))
    assert torch.equal(one, Noise((1, 2, 7)).normal([2], [2], [1], (4,)))
    assert not torch.equal(one, Noise((8,)).normal([0], [2], [1], (4,)))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (15,), (16,), (37,), (4, 5), (0,)])
def test_a_unit_is_filled_as_a_tensor_of_its_own_would_be(shape: tuple[int, ...]) -> None:
    """The numbers of a generator whose seed is the digest of (seed, unit, step, kind)."""
    draws = (torch.rand, torch.randn, partial(torch.randint, 99), torch.rand)
    points = [(0, 0, 0), (1, 5, -1), (0, 2**40, 3), (1, 5, 2)]
    for use, (kind, draw) in enumerate(zip(KINDS, draws, strict=True)):
        expected = []
        for row, unit, step in points:
            point = struct.pack("<qqqq", (3, -11)[row], unit, step, use)
            seed = int.from_bytes(hashlib.blake2b(point, digest_size=8).digest(), "little") >> 1
            expected.append(draw(shape, generator=torch.Generator().manual_seed(seed)))
        rows, units, steps = zip(*points, strict=True)
        found = getattr(Noise((3, -11), vocabulary=99), kind)(rows, units, steps, shape)
        assert torch.equal(found, torch.stack(expected))


def test_a_seed_means_the_same_tomorrow() -> None:
    uniform = Noise((7,)).uniform([0], [3], [1], (3,))
    normal = Noise((-7,)).normal([0], [3], [1], (3,))
    torch.testing.assert_close(uniform, torch.tensor([[0.22876668, 0.03131568, 0.65609908]]))
    torch.testing.assert_close(normal, torch.tensor([[0.07013046, 0.18488881, 0.04860663]]))


def test_uniform_and_normal_numbers_are_what_they_say() -> None:
    units = list(range(50))
    uniform = Noise((5,)).uniform([0] * 50, units, [0] * 50, (100,)).flatten()
    normal = Noise((5,)).normal([0] * 50, units, [0] * 50, (100,)).flatten()
    assert 0 <= uniform.min() and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02 and abs(uniform.var() - 1 / 12) < 0.005
    assert abs(normal.mean()) < 0.05 and abs(normal.var() - 1) < 0.1
    both = torch.stack((uniform, normal))
    assert abs(torch.corrcoef(both)[0, 1]) < 0.05


def test_tokens_are_spread_evenly_and_drawn_for_themselves() -> None:
    noise, units = Noise((5,), vocabulary=10), list(range(100))
    token, uniform = (draw([0] * 100, units, [0] * 100, (100,)).flatten() for draw in (noise.token, noise.uniform))
    counts = token.bincount(minlength=10)
    assert len(counts) == 10 and ((counts - 1000).abs() < 150).all()  # five standard deviations
    assert abs(torch.corrcoef(torch.stack((token.float(), uniform)))[0, 1]) < 0.05


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    Noise((1,)).normal([0], [0], [0], (3,))
    assert torch.equal(before, torch.get_rng_state())


def test_what_a_token_is_and_when_it_is_fixed_have_nothing_to_do_with_each_other() -> None:
    units, count = list(range(50)), 50 * 100
    one, other = (getattr(Noise((5,)), kind)([0] * 50, units, [0] * 50, (100,)).flatten() for kind in KINDS[::3])
    assert 0 <= other.min() and other.max() < 1 and abs(other.mean() - 0.5) < 4 / (12 * count) ** 0.5
    assert abs(((one - 0.5) * (other - 0.5)).mean()) < 4 / 12 / count**0.5


@pytest.mark.skipif(library() is None, reason="no C++ compiler")
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (227,), (228,)])
@pytest.mark.parametrize("vocabulary", [1, 3, 50257, 2**24, 2**24 + 1])
def test_compiled_numbers_are_those_of_the_generator(
    shape: tuple[int, ...], vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, units, steps = [0, 1, 2, 2, 0], [0, 2**40, -3, 1, 7], [-1, 0, 1, 2**33, 3]

    def every() -> list[torch.Tensor]:
        noise = Noise((-(2**63), 2**63 - 1, 5), vocabulary=vocabulary)
        return [getattr(noise, kind)(rows, units, steps, shape) for kind in ("uniform", "token", "order", "normal")]

    compiled = every()
    monkeypatch.setattr(grid, "library", lambda: None)
    for one, other in zip(compiled, every(), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
