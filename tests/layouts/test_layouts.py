"""Every cut of a sample: the order of generation, coordinates, units, and patches that come back exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace.errors import SettingError
from interlace.layouts import Blocks, Frames, Layout, Squares

LAYOUTS: list[Layout] = [Blocks(1), Blocks(4), Squares(4, 6, side=2), Frames(4, 2, 3, frames_per_unit=2)]
SMALL = st.integers(1, 3)


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
def test_the_contract(layout: Layout) -> None:
    length = 24
    index = torch.arange(length)
    assert layout.unit(index).tolist() == [i // layout.size for i in range(length)]
    assert layout.units(length) == -(-length // layout.size) == int(layout.unit(index).max()) + 1
    assert layout.units(length - 1) == layout.units(length) or layout.size == 1
    assert layout.positions(index).shape == ((length,) if layout.axes == 1 else (length, layout.axes))
    shaped = index.view(2, 3, 4)
    assert torch.equal(layout.unit(shaped).flatten(), layout.unit(index))
    assert torch.equal(layout.positions(shaped).reshape(layout.positions(index).shape), layout.positions(index))
    assert layout.positions(index).unique(dim=0).shape[0] == length


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
def test_tags_name_index_unit_document_and_copy(layout: Layout) -> None:
    tags = layout.tags(13, document=5, copy=2)
    assert tags.index.tolist() == list(range(13))
    assert torch.equal(tags.unit, layout.unit(torch.arange(13)))
    assert tags.document.tolist() == [5] * 13
    assert tags.copy.tolist() == [2] * 13
    assert {tensor.dtype for tensor in tags} == {torch.int64}
    assert layout.tags(2).document.tolist() == layout.tags(2).copy.tolist() == [0, 0]


def test_blocks() -> None:
    layout = Blocks(4)
    assert [layout.units(length) for length in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert layout.positions(torch.tensor([7, 2])).tolist() == [7, 2]


def test_squares_have_the_coordinates_of_acdit() -> None:
    layout = Squares(4, 4, side=2)
    h, w = layout.positions(torch.arange(16)).T.tolist()
    assert h == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
    assert w == [0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3]
    assert (layout.size, layout.length, layout.units(16)) == (4, 16, 4)


def test_the_published_sizes_of_acdit() -> None:
    image, video = Squares(32, 32, side=16), Frames(16, 16, 16, frames_per_unit=4, patch=2)
    assert (image.size, image.length, image.units(image.length)) == (256, 1024, 4)
    assert (video.size, video.length, video.units(video.length)) == (1024, 4096, 4)
    assert video.patchify(torch.zeros(1, 16, 32, 32, 4)).shape == (1, 4096, 16)


def test_one_square_and_squares_of_one_token_are_raster_order() -> None:
    raster = [[h, w] for h in range(3) for w in range(3)]
    for side in (1, 3):
        assert Squares(3, 3, side=side).positions(torch.arange(9)).tolist() == raster


def test_frames_are_raster_frame_after_frame() -> None:
    layout = Frames(2, height=2, width=3)
    assert layout.positions(torch.arange(12)).tolist() == [
        [t, h, w] for t in range(2) for h in range(2) for w in range(3)
    ]
    assert layout.positions(torch.tensor([600])).tolist() == [[100, 0, 0]]  # a stream has no end


@settings(deadline=None)
@given(down=SMALL, across=SMALL, side=SMALL, patch=SMALL, channels=SMALL, batch=SMALL)
def test_squares_come_back_exactly(down: int, across: int, side: int, patch: int, channels: int, batch: int) -> None:
    layout = Squares(down * side, across * side, side, patch)
    shape = (batch, layout.height * patch, layout.width * patch, channels)
    images = torch.arange(batch * shape[1] * shape[2] * channels).view(shape)
    tokens = layout.patchify(images)
    assert tokens.shape == (batch, layout.length, patch * patch * channels)
    assert torch.equal(layout.unpatchify(tokens), images)
    for i, (h, w) in enumerate(layout.positions(torch.arange(layout.length)).tolist()):
        pixels = images[:, h * patch : (h + 1) * patch, w * patch : (w + 1) * patch]
        assert torch.equal(tokens[:, i], pixels.reshape(batch, -1))


@settings(deadline=None)
@given(units=SMALL, together=SMALL, height=SMALL, width=SMALL, patch=SMALL, channels=SMALL, batch=SMALL)
def test_frames_come_back_exactly(
    units: int, together: int, height: int, width: int, patch: int, channels: int, batch: int
) -> None:
    layout = Frames(units * together, height, width, together, patch)
    shape = (batch, layout.frames, height * patch, width * patch, channels)
    clips = torch.arange(int(torch.tensor(shape).prod())).view(shape)
    tokens = layout.patchify(clips)
    assert tokens.shape == (batch, layout.length, patch * patch * channels)
    assert torch.equal(layout.unpatchify(tokens), clips)
    for i, (t, h, w) in enumerate(layout.positions(torch.arange(layout.length)).tolist()):
        pixels = clips[:, t, h * patch : (h + 1) * patch, w * patch : (w + 1) * patch]
        assert torch.equal(tokens[:, i], pixels.reshape(batch, -1))


def test_a_unit_of_frames_is_decoded_alone() -> None:
    layout = Frames(4, 2, 2, frames_per_unit=2, patch=3)
    clips = torch.randn(2, 4, 6, 6, 3, generator=torch.Generator().manual_seed(0))
    tokens = layout.patchify(clips)
    assert torch.equal(layout.unpatchify(tokens[:, layout.size :]), clips[:, 2:])
    assert torch.equal(layout.patchify(clips[:, :1]), tokens[:, :4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blocks(0), "the block size is 0; pass 1 or more"),
        (lambda: Squares(4, 4, side=0), r"side=0.* has a setting below 1; pass 1 or more"),
        (lambda: Squares(4, 6, side=4), "4 x 6 tokens cannot be cut into squares of side 4; pass a side that divides"),
        (lambda: Squares(6, 4, side=4), "6 x 4 tokens cannot be cut"),
        (lambda: Frames(0, 1, 1), r"frames=0.* has a setting below 1"),
        (lambda: Frames(5, 1, 1, frames_per_unit=2), "5 frames cannot be cut into units of 2; pass a multiple"),
        (lambda: Squares(4, 4, 2).patchify(torch.zeros(1, 4, 5, 3)), "images of 4 x 5 pixels .*; pass 4 x 4"),
        (lambda: Squares(4, 4, 2).unpatchify(torch.zeros(1, 15, 3)), "15 tokens .*; pass 16 tokens"),
        (lambda: Squares(4, 4, 2, patch=2).unpatchify(torch.zeros(1, 16, 6)), "16 tokens of 6 numbers .* 4 per"),
        (lambda: Frames(2, 2, 2, patch=2).patchify(torch.zeros(1, 2, 2, 2, 3)), "frames of 2 x 2 .*; pass 4 x 4"),
        (lambda: Frames(2, 2, 2).unpatchify(torch.zeros(1, 6, 3)), "6 tokens .*; pass a multiple of 4 tokens"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()
