"""Moving shapes: the verifier reads true clips right, also noisy ones, and accepts no broken one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from interlace.errors import DataError, SettingError
from interlace.worlds.shapes import (
    CLASSES,
    COLOURS,
    MOTIONS,
    SHAPES,
    Shapes,
    draw,
    features,
    label_of,
    names_of,
    valid,
    verify,
)

COUNT = 200


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray]:
    return Shapes().batch(range(COUNT))


def noisy(clips: np.ndarray) -> np.ndarray:
    return clips + np.random.default_rng(0).normal(0, 0.1, clips.shape).astype(np.float32)


def rate(clips, labels) -> float:
    return float(np.mean([valid(verify(clip), int(label)) for clip, label in zip(clips, labels, strict=True)]))


def path(motion: str, start=(3.3, 12.1), speed=1.05, frames=16) -> np.ndarray:
    angle = MOTIONS.index(motion) * np.pi / 4
    return np.array(start) + np.arange(frames)[:, None] * speed * np.array([np.cos(angle), np.sin(angle)])


def test_clips(world):
    clips, labels = world
    assert clips.shape == (COUNT, 16, 16, 16, 3) and clips.dtype == np.float32 and labels.dtype == np.int64
    assert clips.min() == -1 and clips.max() <= 1
    assert set(labels) == set(range(CLASSES))
    again, label = Shapes().clip(17)
    assert (again == clips[17]).all() and label == labels[17]
    assert (Shapes(seed=1).clip(17)[0] != clips[17]).any()
    assert Shapes().clip(17, label=9)[1] == 9 and valid(verify(Shapes().clip(17, label=9)[0]), 9)
    palette = np.array(list(COLOURS.values()))
    gaps = np.linalg.norm(palette[:, None] - palette[None], axis=2)
    assert gaps[~np.eye(8, dtype=bool)].min() >= 1


def test_true_clips_are_valid(world):
    clips, labels = world
    assert rate(clips, labels) >= 0.99
    assert rate(noisy(clips), labels) >= 0.99
    assert rate(clips, (labels + 1) % CLASSES) == 0, "another motion"
    assert rate(clips, (labels + len(MOTIONS)) % CLASSES) == 0, "another shape"


@pytest.mark.parametrize(("frames", "size"), [(4, 16), (8, 32), (32, 16)])
def test_other_sizes(frames, size):
    clips, labels = Shapes(frames, size).batch(range(40))
    assert rate(clips, labels) >= 0.97 and rate(noisy(clips), labels) >= 0.97


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("motion", MOTIONS)
def test_attributes_are_measured(shape, motion):
    centres = path(motion)
    found = verify(noisy(draw(shape, "violet", centres, 16)))
    assert (found.shape, found.motion, found.colour) == (shape, motion, "violet")
    assert np.allclose(found.velocity, centres[1] - centres[0], atol=0.03)
    assert found.constant_shape and found.constant_colour and found.constant_velocity and found.confidence > 0.9


def test_a_still_a_fast_and_a_bent_path():
    label = label_of("square", "east")
    still = verify(draw("square", "red", path("east", speed=0.0), 16))
    assert still.motion is None and np.allclose(still.velocity, 0, atol=1e-6) and not valid(still, label)
    assert verify(draw("square", "red", path("east", speed=2.5), 16)).motion is None
    bent = path("east")
    bent[8:] = path("south", start=tuple(bent[8]), frames=8)
    assert not verify(draw("square", "red", bent, 16)).constant_velocity
    angle = np.radians(22.5)
    between = np.array([3.0, 3.0]) + np.arange(16)[:, None] * np.array([np.cos(angle), np.sin(angle)])
    assert verify(draw("square", "red", between, 16)).motion is None


def test_order_of_frames_matters(world):
    clips, labels = world
    random = np.random.default_rng(0)
    assert rate([clip[random.permutation(16)] for clip in clips], labels) == 0
    swapped = clips.copy()
    swapped[:, [7, 8]] = swapped[:, [8, 7]]
    assert rate(swapped, labels) == 0 and rate(noisy(swapped), labels) == 0
    assert not any(verify(clip).constant_velocity for clip in swapped[:50])
    frozen = clips.copy()
    frozen[:, 8:] = frozen[:, 8:9]
    assert rate(frozen, labels) == 0
    backwards = clips[:, ::-1]
    opposite = [label_of(s, MOTIONS[(MOTIONS.index(m) + 4) % 8]) for s, m in map(names_of, labels.tolist())]
    assert rate(backwards, labels) == 0 and rate(backwards, opposite) >= 0.99


@pytest.mark.parametrize("frames", [slice(8, None), slice(5, 6), slice(15, None)])
@pytest.mark.parametrize("noise", [False, True])
def test_a_change_of_colour_or_shape_is_found(frames, noise):
    names, colours = list(SHAPES), list(COLOURS)
    for index in range(32):
        shape, motion = names_of(index)
        colour = index % 8
        clip = draw(shape, colours[colour], path(motion), 16)
        recoloured, mixed = clip.copy(), clip.copy()
        recoloured[frames] = draw(shape, colours[(colour + 1) % 8], path(motion), 16)[frames]
        mixed[frames] = draw(names[(names.index(shape) + 1) % 4], colours[colour], path(motion), 16)[frames]
        if noise:
            recoloured, mixed = noisy(recoloured), noisy(mixed)
        assert not verify(recoloured).constant_colour and not valid(verify(recoloured), index)
        assert not verify(mixed).constant_shape and not valid(verify(mixed), index)


def test_nothing_noise_and_two_shapes_are_invalid():
    for clip in (
        np.zeros((16, 16, 16, 3)),
        -np.ones((16, 16, 16, 3)),
        np.random.default_rng(0).uniform(-1, 1, (16, 16, 16, 3)),
    ):
        found = verify(clip)
        assert found.confidence < 0.5 and not any(valid(found, label) for label in range(CLASSES))
    one = draw("circle", "red", path("east"), 16)
    two = np.maximum(one, draw("circle", "red", path("east", start=(11.0, 4.0)), 16))
    assert not valid(verify(two), label_of("circle", "east"))
    hazy = np.where(one.max(-1, keepdims=True) > -1, one, -0.6)
    assert replace(verify(hazy), confidence=1.0, velocity=(0, 0)) == replace(
        verify(one), confidence=1.0, velocity=(0, 0)
    )
    assert not valid(verify(hazy), label_of("circle", "east"))
    grey = draw("circle", (0.2, 0.2, 0.2), path("east"), 16)
    assert not verify(grey).constant_colour


def test_features_tell_good_from_broken(world):
    clips, _ = world
    found = features(clips)
    assert found.shape == (COUNT, 22) and np.isfinite(found).all()
    assert (features(clips[3:5]) == found[3:5]).all()
    half = COUNT // 2
    shuffled = clips[half:, np.random.default_rng(0).permutation(16)]

    def distance(one, two):
        scale = found.std(0) + 1e-6
        return np.abs((one.mean(0) - two.mean(0)) / scale).max()

    assert distance(found[:half], found[half:]) < 0.5
    assert distance(found[:half], features(shuffled)) > 2


def test_wrong_arguments():
    with pytest.raises(SettingError, match="too small"):
        Shapes(frames=2)
    with pytest.raises(SettingError, match="label is 32; pass 0 to 31"):
        names_of(32)
    with pytest.raises(SettingError, match="shape is 'star'"):
        draw("star", "red", path("east"), 16)
    with pytest.raises(DataError, match="of shape"):
        verify(np.zeros((16, 16, 3)))
    with pytest.raises(DataError, match="NaN"):
        verify(np.full((4, 16, 16, 3), np.nan))
    with pytest.raises(DataError, match="of shape"):
        features(np.zeros((16, 16, 16, 3)))
