"""What cannot be generated is refused before the first forward, in one line: the cause; the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interlace.attention.patterns import Causal
from interlace.errors import SettingError
from interlace.generation import OPEN
from interlace.guidance import ClassifierFree
from interlace.layouts import Blocks, Squares
from interlace.processes import AbsorbingMask, FlowMatching, NextToken
from interlace.schedules import BlockByBlock

from .conftest import MASK, feature_network, stream, text_network

BLOCKS: dict[str, Any] = {"process": AbsorbingMask(MASK), "layout": Blocks(4)}
AR: dict[str, Any] = {"process": NextToken(), "layout": Blocks(1), "pattern": Causal()}
FLOW: dict[str, Any] = {"process": FlowMatching(), "layout": Blocks(4)}
CASES: list[tuple[str, Any, Any, dict[str, Any]]] = [
    ("the length is -1; pass 0 or more", [[1]], -1, BLOCKS),
    ("row 0: 50 prompt tokens and 15 new ones, in blocks of 4, exceed the model's 64 positions; shorten", [[1] * 50],
     15, BLOCKS),
    ("row 1: 61 prompt tokens and 0 new ones, in blocks of 5, exceed", [[1], [1] * 61], 0,
     BLOCKS | {"layout": Blocks(5)}),
    ("row 0: token id 32 is outside the vocabulary of 32; is it from another tokenizer", [[3, 32]], 4, BLOCKS),
    ("row 1: token id -2 is outside the vocabulary", [[3], [-2]], 4, BLOCKS),
    ("row 0: the prompt is empty; next-token generation needs at least one token", [[]], 4, AR),
    ("row 0: next-token generation cannot infill; use a diffusion model", [[1, OPEN]], 4, AR),
    (r"next-token generation knows units of one token, not of 4; use Blocks\(1\)", [[1]], 4,
     AR | {"layout": Blocks(4)}),
    ("2 prompts need 2 lengths, seeds and labels; pass one, or one per row", [[1], [2]], [1, 2, 3], BLOCKS),
    ("need .* lengths, seeds and labels", [[1], [2]], 4, BLOCKS | {"seed": [1]}),
    ("need .* lengths, seeds and labels", [[1], [2]], 4, BLOCKS | {"label": [1]}),
    ("unknown memory 'paged'; pass exact, block, prefix or none", [[1]], 4, BLOCKS | {"memory": "paged"}),
    ("the network reads tokens, but the process makes features; use", [[1]], 4, FLOW),
    ("mask_id is 32, the vocabulary has 32; pass", [[1]], 4, BLOCKS | {"process": AbsorbingMask(32)}),
    (r"row 0: the prompt is \[1, 2\]; pass \[1\]", [[[1, 2]]], 4, BLOCKS),
    ("the layout gives 2 coordinates a token, the network's positions have 1; use", [[1]], 4,
     BLOCKS | {"layout": Squares(4, 4, 2)}),
]  # fmt: skip
FEATURE_CASES: list[tuple[str, Any, Any, dict[str, Any]]] = [
    ("the network reads features, but the process makes tokens; use a process of features", [[]], 4, BLOCKS),
    ("row 0: a prompt of 2 tokens ends inside a unit; pass whole units of 4", [torch.zeros(2, 3)], 4, FLOW),
    (r"row 0: the prompt is \[4, 2\]; pass \[4, 3\]", [torch.zeros(4, 2)], 4, FLOW),
    (r"the label is 3; pass 0 to 1, 2 for none", [[]], 4, FLOW | {"label": [3]}),
    (r"the label is -1; pass", [[]], 4, FLOW | {"label": [-1]}),
]


@pytest.mark.parametrize(("message", "prompts", "length", "options"), CASES)
def test_text(message: str, prompts: Any, length: Any, options: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        stream(text_network(), prompts, length, schedule=BlockByBlock(2), **options)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


@pytest.mark.parametrize(("message", "prompts", "length", "options"), FEATURE_CASES)
def test_features(message: str, prompts: Any, length: Any, options: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=message):
        stream(feature_network(), prompts, length, schedule=BlockByBlock(2), **options)


def test_guidance_without_labels() -> None:
    events = stream(feature_network(), [[]], 4, FlowMatching(), BlockByBlock(2), guide=ClassifierFree(2.0, 2))
    with pytest.raises(SettingError, match=r"guidance needs a label for every row; pass label=\[...\]"):
        next(events)


def test_what_just_fits_is_generated() -> None:
    events = stream(text_network(), [[1] * 50], 14, AbsorbingMask(MASK), BlockByBlock(1))
    assert sum(len(event.content) for event in events) == 16  # two tokens of the first block are given
