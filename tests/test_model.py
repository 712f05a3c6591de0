"""A model ready for use: what its methods give back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.checkpoints import Checkpoint
from interlace.model import BUNDLED, Model, load, locate
from interlace.nn import Transformer, TransformerConfig
from interlace.systems import find

MASK = 30


@pytest.fixture(scope="module")
def plain() -> Model:
    """A block-diffusion model of blocks of 4, wide enough for the likeliest token to depend on the context."""
    config = TransformerConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8,
        max_positions=64,
    )  # fmt: skip
    network = Transformer(config).initialise(torch.Generator().manual_seed(1), std=0.7).eval()
    sdar = find("sdar")
    return Model(Checkpoint(network, None, "sdar", 4, MASK), sdar, sdar.settings.but(block_size=4, mask_id=MASK))


@pytest.fixture(scope="module")
def suffix_first(plain: Model) -> Model:
    return replace(plain, checkpoint=replace(plain.checkpoint, extra={"config": {"suffix_first": True}}))


@pytest.mark.parametrize("reads", ["plain", "suffix_first"])
@pytest.mark.parametrize(("before", "after", "length"), [(6, 7, 5), (4, 8, 4), (0, 3, 6), (5, 0, 2), (2, 1, 9)])
def test_a_filled_gap_carries_its_details(reads: str, before: int, after: int, length: int, request: Any) -> None:
    """Every token of the gap was fixed in some step, at a log-probability; those given are not among them."""
    model: Model = request.getfixturevalue(reads)
    prefix, suffix = list(range(before)), list(range(10, 10 + after))
    found = model.infill(prefix, suffix, length, details=True)
    assert found.row.tolist() == [*prefix, *found.content.tolist(), *suffix] and len(found.content) == length
    assert found.log_prob is not None and found.order is not None
    assert found.log_prob.shape == found.order.shape == (length,)
    assert (found.log_prob < 0).all() and (found.order >= 0).all()
    assert found.tokens_per_forward == length / found.forwards
    without = model.infill(prefix, suffix, length)
    assert without.content.tolist() == found.content.tolist() and without.log_prob is None and without.order is None


def test_the_details_of_a_gap_are_those_of_its_events(plain: Model) -> None:
    prefix, suffix = [1, 2, 3], [4, 5, 6, 7, 8, 9]
    found = plain.infill(prefix, suffix, 4, details=True)
    events = plain.stream([[*prefix, -1, -1, -1, -1, *suffix]], 0, stop=(), details=True)
    expected = {}
    for event in events:
        assert event.log_prob is not None
        expected |= {event.start + i: float(value) for i, value in enumerate(event.log_prob)}
    assert found.log_prob is not None and found.log_prob.tolist() == [expected[i] for i in range(3, 7)]


def test_a_bundled_model_is_found_by_its_name_unless_a_folder_here_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("base") == BUNDLED / "base" and locate(Path("twin")) == BUNDLED / "twin"
    assert locate("somewhere/base") == "somewhere/base"
    (tmp_path / "base").mkdir()
    assert locate("base") == "base"


@pytest.mark.parametrize(("before", "after"), [(9, 2), (2, 9), (1, 1), (0, 7), (7, 0), (5, 5)])
def test_a_gap_loses_the_far_end_of_the_longer_text(before: int, after: int) -> None:
    """Read suffix first in blocks of 4: whole blocks, and of the shorter text nothing is lost that the longer has."""
    model = load("twin")
    first, last = list(range(100, 100 + before)), list(range(200, 200 + after))
    gap = model.gap(first, last, 3)
    assert len(gap.row) % 4 == 0 and gap.row[gap.start :] == [-1] * 3
    near = [token for token in gap.row if token >= 200]
    context = [token for token in gap.row if 0 <= token < 200]
    assert near == last[: len(near)] and context == first[before - len(context) :]
    lost = (before + after + 3) % 4
    assert len(near) + len(context) == before + after - lost
    if lost and after > before:
        assert len(context) == before or not near
    elif lost:
        assert len(near) == after or not context
