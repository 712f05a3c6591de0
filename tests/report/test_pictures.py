"""The pictures say what the numbers say: every cell, every level, every move."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from interlace.attention.patterns import BlockCausal, Causal, Tags, TwoCopy, dense
from interlace.errors import SettingError
from interlace.grid import walk
from interlace.layouts import Blocks
from interlace.report import pictures
from interlace.report.pictures import draw_mask, draw_path, figure_svg, mask_text, path_text
from interlace.schedules import AllAtOnce, BlockByBlock, Diagonal, LevelByLevel, TokenByToken

SCHEDULES = [TokenByToken(), BlockByBlock(3), AllAtOnce(2), Diagonal(4, window=3, lag=2), LevelByLevel(5)]


def two_copies(n: int = 4, size: int = 2) -> Tags:
    layout = Blocks(size)
    return Tags(*(torch.cat(pair) for pair in zip(layout.tags(n, copy=1), layout.tags(n), strict=True)))


def pixels(ax: Any, n: int, m: int) -> np.ndarray:
    """The colour at a place inside every cell (off the centre, where a line or a letter could be), [n, m, 3]."""
    figure = ax.get_figure()
    figure.set_dpi(200)
    figure.canvas.draw()
    image = np.asarray(figure.canvas.buffer_rgba())
    places = [[ax.transData.transform((x + 0.3, y + 0.3)) for x in range(m)] for y in range(n)]
    return np.array([[image[image.shape[0] - 1 - int(y), int(x), :3] for x, y in row] for row in places])


def rgb(colour: str) -> list[int]:
    return [round(255 * channel) for channel in to_rgb(colour)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_path_numbers_every_cell_by_its_move(schedule: Any) -> None:
    units = 4
    ax = draw_path(schedule, units)
    high = ax.get_ylim()[1]
    drawn = {}
    for text in ax.texts:
        if text.get_text().isdigit():
            x, y = text.get_position()
            drawn[int(x), round(float(y) / high, 6)] = int(text.get_text())
    expected = {
        (unit, round((frm + to) / 2, 6)): number
        for number, (_, move) in enumerate(walk(schedule, units), 1)
        for unit, frm, to in zip(move.units, move.frm, move.to, strict=True)
    }
    assert drawn == expected
    assert len([patch for patch in ax.patches if isinstance(patch, FancyBboxPatch)]) == len(expected)


def test_a_path_runs_through_the_colours() -> None:
    ax = draw_path(BlockByBlock(2), 3)
    colours = [patch.get_facecolor()[:3] for patch in ax.patches]
    assert colours[0] == to_rgb(pictures.ORDER[0]) and colours[-1] == to_rgb(pictures.ORDER[-1])
    assert len(set(colours)) == 6
    together = draw_path(AllAtOnce(1), 3)
    assert len({patch.get_facecolor() for patch in together.patches}) == 1


def test_a_path_shows_its_prompt_and_its_name() -> None:
    ax = draw_path(Diagonal(4, window=2, lag=1), units=5, clean=2)
    texts = {text.get_text() for text in ax.texts}
    assert {"prompt", "5 units, 8 moves"} <= texts
    assert ax.get_title() == "diagonal:steps=4,window=2,lag=1"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0 clean", "0.25", "0.5", "0.75", "1 noise"]


def test_many_cells_have_colours_only() -> None:
    ax = draw_path(AllAtOnce(10), 60)
    assert not [text for text in ax.texts if text.get_text().isdigit()]
    assert len(ax.patches) == 600


def test_pictures_are_drawn_where_they_are_told() -> None:
    left, right = Figure().subplots(1, 2)
    assert draw_path(TokenByToken(), 3, left) is left
    assert draw_mask(np.tri(3), right) is right


@settings(deadline=None, max_examples=15)
@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_a_mask_colours_exactly_the_cells_that_are_seen(matrix: np.ndarray) -> None:
    seen = pixels(draw_mask(matrix), *matrix.shape)
    blue, grey = rgb(pictures.SEEN[False, True][0]), rgb(pictures.FAINT)
    assert (seen == np.where(matrix[..., None], blue, grey)).all()


def test_a_mask_with_tags_tells_clean_from_noisy_and_own_from_other() -> None:
    tags = two_copies()
    seen = pixels(draw_mask(dense(TwoCopy(), tags), tags=tags), 8, 8)
    own, other, noisy = (rgb(pictures.SEEN[key][0]) for key in [(False, True), (False, False), (True, True)])
    grey = rgb(pictures.FAINT)
    assert seen[0].tolist() == [noisy] * 2 + [grey] * 6
    assert seen[2].tolist() == [grey] * 2 + [noisy] * 2 + [other] * 2 + [grey] * 2
    assert seen[7].tolist() == [grey] * 4 + [other] * 2 + [own] * 2


def test_a_mask_names_copies_documents_and_colours() -> None:
    layout = Blocks(2)
    parts = [layout.tags(8, document, copy) for document in (0, 1) for copy in (1, 0)] + [layout.tags(8, -1)]
    tags = Tags(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    ax = draw_mask(dense(TwoCopy(), tags), tags=tags)
    names = [text.get_text() for text in ax.texts]
    assert names == [name for name in ("noisy a", "clean a", "noisy b", "clean b", "padding") for _ in range(2)]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2", "3"] * 4
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "clean, own unit",
        "clean, other units",
        "noisy, own unit",
    ]


def test_a_mask_of_one_copy_names_its_sides() -> None:
    tags = Blocks(2).tags(6)
    for ax in (draw_mask(dense(BlockCausal(), tags), tags=tags), draw_mask(dense(BlockCausal(), tags))):
        assert [text.get_text() for text in ax.texts] == ["keys", "queries"]


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_rectangles_cover_every_seen_cell_once(matrix: np.ndarray) -> None:
    cover = np.zeros(matrix.shape, int)
    for x, y, width, height in pictures._rectangles(matrix):
        cover[y : y + height, x : x + width] += 1
    assert (cover == matrix).all()


def test_path_text_by_hand() -> None:
    assert path_text(Diagonal(4, window=2, lag=2), units=4, clean=1).splitlines() == [
        "diagonal:steps=4,window=2,lag=2, 4 units, 8 moves",
        " move  level  moves",
        "    1  ·███    ↓",
        "    2  ·▓██    ↓",
        "    3  ·▒██    ↓↓",
        "    4  ·░▓█    ↓↓",
        "    5  ··▒█     ↓↓",
        "    6  ··░▓     ↓↓",
        "    7  ···▒      ↓",
        "    8  ···░      ↓",
        "clean  ····",
    ]


def test_a_long_path_is_cut_in_the_middle() -> None:
    lines = path_text(TokenByToken(), units=100, limit=10).splitlines()
    assert len(lines) == 2 + 11 + 1
    assert lines[7] == "    ⋮  (90 moves more)"
    assert lines[6].startswith("    5") and lines[8].startswith("   96")


def test_mask_text() -> None:
    matrix = dense(Causal(), Blocks(1).tags(2))
    assert mask_text(matrix) == mask_text(matrix[None, None]) == mask_text(matrix.int().tolist()) == "■ ·\n■ ■"


def test_an_svg_stands_alone_and_is_the_same_every_time() -> None:
    tags = two_copies()
    drawings = [lambda: draw_path(Diagonal(4, 3, 1), 6), lambda: draw_mask(dense(TwoCopy(), tags), tags=tags)]
    for draw in drawings:
        text, again = (figure_svg(draw().get_figure()) for _ in range(2))  # type: ignore[no-untyped-call, arg-type]
        assert text == again
        assert text.startswith("<svg") and text.rstrip().endswith("</svg>")
        root = ElementTree.fromstring(text)
        targets = [value for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")]
        assert targets and all(target.startswith("#") for target in targets)
        assert "<text" not in text and "font-family" not in text and "<metadata" not in text
        assert len(text) < 60_000


def test_what_has_no_picture_is_refused() -> None:
    with pytest.raises(SettingError, match="shape \\[2, 3, 3\\]; pass one of"):
        mask_text(np.ones((2, 3, 3)))
    with pytest.raises(SettingError, match="6 tags for a matrix of 4 x 4; pass the tags"):
        draw_mask(np.ones((4, 4)), tags=Blocks(2).tags(6))
    with pytest.raises(SettingError, match="0 units has no picture; pass 1 or more"):
        draw_path(TokenByToken(), 0)


def test_matplotlib_is_imported_late_and_pyplot_never() -> None:
    program = (
        "import sys; from interlace.report.pictures import draw_path; from interlace.schedules import TokenByToken\n"
        "assert not any(name.startswith('matplotlib') for name in sys.modules)\n"
        "draw_path(TokenByToken(), 2)\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
