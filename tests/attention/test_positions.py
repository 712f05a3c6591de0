"""RoPE in any dimension is a rotation and relative; in one it is the complex number e^(i m f)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interlace.attention.positions import Rope, RopeScaling, apply_rope
from interlace.errors import SettingError
from interlace.layouts import Frames, Squares

HEAD = 64
ROPES = {1: Rope((10000.0,)), 2: Rope((100.0, 100.0)), 3: Rope((100.0,) * 3, split=(2, 3, 3))}


def turn(rope: Rope, x: Tensor, positions: Tensor) -> Tensor:
    """x [n, d] at positions [n, axes]."""
    head = x.shape[-1]
    cos, sin = rope.angles(positions, head)
    return apply_rope(x[None, None], cos[None, None], sin[None, None], rope.segments(head))[0, 0]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_it_is_a_rotation(axes: int) -> None:
    x = random(20, HEAD)
    positions = torch.randint(0, 500, (20, axes), generator=torch.Generator().manual_seed(1)).squeeze(-1)
    turned = turn(ROPES[axes], x, positions)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(turned, x)


def test_equal_offsets_give_equal_logits_in_acdit() -> None:
    q, k = random(1, HEAD), random(1, HEAD, seed=1)
    pairs = [((0, 0), (1, 2)), ((3, 7), (4, 9)), ((10, 2), (11, 4))]
    logits = [float(turn(ROPES[2], q, torch.tensor([a])) @ turn(ROPES[2], k, torch.tensor([b])).T) for a, b in pairs]
    assert logits == pytest.approx([logits[0]] * 3, abs=1e-4)
    other = float(turn(ROPES[2], q, torch.tensor([(0, 0)])) @ turn(ROPES[2], k, torch.tensor([(2, 1)])).T)
    assert abs(other - logits[0]) > 0.1


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([1, 2, 3]), st.data())
def test_only_differences_count(axes: int, data: st.DataObject) -> None:
    place = st.lists(st.integers(0, 60), min_size=axes, max_size=axes)
    a, b, shift = (torch.tensor([data.draw(place)]) for _ in range(3))
    q, k = random(1, HEAD), random(1, HEAD, seed=1)

    def logit(a: Tensor, b: Tensor) -> float:
        flat = (lambda t: t[:, 0]) if axes == 1 else (lambda t: t)
        return float(turn(ROPES[axes], q, flat(a)) @ turn(ROPES[axes], k, flat(b)).T)

    assert logit(a, b) == pytest.approx(logit(a + shift, b + shift), abs=2e-3)


def test_one_axis_is_a_complex_rotation() -> None:
    base, positions, x = 10000.0, [0, 1, 5, 100], random(4, HEAD)
    half = HEAD // 2
    expected = torch.empty_like(x)
    for row, m in enumerate(positions):
        for i in range(half):
            angle = m * base ** (-2 * i / HEAD)
            z = complex(x[row, i], x[row, i + half]) * complex(math.cos(angle), math.sin(angle))
            expected[row, i], expected[row, i + half] = z.real, z.imag
    turned = turn(Rope((base,)), x, torch.tensor(positions))
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("axes", [2, 3])
def test_a_segment_is_the_one_dimensional_case_of_its_axis(axes: int) -> None:
    rope, x = ROPES[axes], random(6, HEAD)
    positions = torch.randint(0, 30, (6, axes), generator=torch.Generator().manual_seed(2))
    parts = [
        turn(Rope((100.0,)), part, positions[:, axis]) for axis, part in enumerate(x.split(rope.segments(HEAD), -1))
    ]
    torch.testing.assert_close(turn(rope, x, positions), torch.cat(parts, -1))


def test_the_coordinates_of_the_layouts_fit() -> None:
    squares, frames = Squares(4, 4, side=2), Frames(2, 2, 2)
    cos, sin = ROPES[2].angles(squares.positions(torch.arange(squares.length)), HEAD)
    assert cos.shape == sin.shape == (16, HEAD)
    cos, sin = ROPES[3].angles(frames.positions(torch.arange(frames.length)), HEAD)
    assert cos.shape == sin.shape == (8, HEAD)


@pytest.mark.parametrize(
    ("rope", "head"),
    [(Rope((1.0, 1.0)), 6), (Rope((1.0,) * 3), 64), (Rope((1.0, 1.0), split=(1, 1, 2)), 64), (Rope(), 7)],
    ids=repr,
)
def test_a_head_that_cannot_be_cut(rope: Rope, head: int) -> None:
    with pytest.raises(SettingError, match=f"a head of {head} channels cannot be cut .*; change head_dim"):
        rope.segments(head)


def test_linear_scaling_divides_every_angle() -> None:
    scaled = Rope(scaling=RopeScaling("linear", factor=4.0))
    torch.testing.assert_close(scaled.frequencies(HEAD)[0] * 4, Rope().frequencies(HEAD)[0])


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_the_ramps_keep_fast_angles_and_divide_slow_ones(kind: str) -> None:
    scaling = RopeScaling(kind, factor=8.0, original_max_position_embeddings=8192)
    ratio = Rope((500000.0,), scaling=scaling).frequencies(128)[0] / Rope((500000.0,)).frequencies(128)[0]
    assert ratio[0] == pytest.approx(1.0) and ratio[-1] == pytest.approx(1 / 8)
    assert (ratio.diff() <= 1e-6).all() and ((ratio > 0.126) & (ratio < 0.999)).any()


def test_an_unknown_scaling_is_refused() -> None:
    known = "default, linear, dynamic, llama3, yarn"
    with pytest.raises(SettingError, match=f"unknown rope scaling 'wavy'; known: {known}"):
        Rope(scaling=RopeScaling("wavy")).frequencies(HEAD)


@pytest.mark.parametrize(
    ("parameters", "head"),
    [
        ({"rope_type": "linear", "factor": 3.0}, 64),
        ({"rope_type": "dynamic", "factor": 3.0}, 64),
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            128,
        ),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 128),
        (
            {
                "rope_type": "yarn",
                "factor": 40.0,
                "original_max_position_embeddings": 4096,
                "mscale": 1.0,
                "mscale_all_dim": 0.5,
                "beta_fast": 16.0,
                "truncate": False,
            },
            64,
        ),
    ],
    ids=lambda value: str(value.get("rope_type")) if isinstance(value, dict) else None,
)
def test_scaled_frequencies_are_those_of_transformers(parameters: dict[str, Any], head: int) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        hidden_size=head * 2,
        num_attention_heads=2,
        max_position_embeddings=131072,
        rope_parameters={"rope_theta": 500000.0, **parameters},
    )
    expected, magnitude = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, torch.device("cpu"))
    settings = {key: value for key, value in parameters.items() if key != "rope_type"}
    rope = Rope((500000.0,), scaling=RopeScaling(parameters["rope_type"], **settings))
    torch.testing.assert_close(rope.frequencies(head)[0], expected, atol=0, rtol=1e-6)
    assert rope.magnitude == pytest.approx(magnitude)
