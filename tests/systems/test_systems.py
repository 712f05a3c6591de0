"""Systems as choices of parts: found by their files, built from their settings."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.attention.patterns import Causal
from interlace.checkpoints import Checkpoint, save
from interlace.errors import SettingError
from interlace.generation import collect, generate
from interlace.layouts import Blocks
from interlace.model import Model, load
from interlace.nn import Transformer, TransformerConfig
from interlace.processes import NextToken
from interlace.reveal import (
    Ancestral,
    DependenceBounded,
    Dynamic,
    EntropyBounded,
    LargestMargin,
    LeastUncertain,
    Sequential,
    Static,
    Tempered,
    Threshold,
)
from interlace.sampling import Sampler
from interlace.schedules import TokenByToken
from interlace.systems import find, systems
from interlace.systems.system import TextSettings

from .conftest import MASK, text_network, tokens


def test_every_system_is_found_by_its_file_and_builds_its_parts() -> None:
    assert {"acdit", "ar", "sdar"} <= set(systems()) and list(systems()) == sorted(systems())
    accepted = inspect.signature(generate).parameters
    for name, system in systems().items():
        assert system.name == name and system.title and system.summary
        parts = system.parts(system.settings)
        assert set(parts.sampling) <= set(accepted)
        assert parts.layout.size >= 1 and callable(parts.objective)


@pytest.mark.parametrize("name", ["ar", "sdar"])
def test_a_text_system_generates_from_its_defaults(name: str) -> None:
    system = find(name)
    parts = system.parts(system.settings.but(mask_id=MASK))
    prompts = [tokens(3).tolist(), tokens(5, 1).tolist()]
    rows = collect(generate(text_network(), prompts, 6, **parts.sampling), prompts, 6)
    assert [len(row.content) for row in rows] == [6, 6]


def test_autoregression() -> None:
    parts = find("ar").parts(find("ar").settings.but(temperature=0.5, top_k=7, top_p=0.9))
    assert parts.layout == Blocks(1) and parts.pattern == Causal() and parts.schedule == TokenByToken()
    assert parts.process == NextToken(Sampler(0.5, 7, 0.9))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("static", Static()),
        ("dynamic", Dynamic(0.7)),
        ("threshold", Threshold(0.7)),
        ("sequential", Sequential()),
        ("entropy-bounded", EntropyBounded(0.2)),
        ("dependence-bounded", DependenceBounded(0.2)),
        ("least-uncertain", LeastUncertain()),
        ("largest-margin", LargestMargin()),
        ("ancestral", Ancestral()),
    ],
)
def test_a_rule_by_its_name(name: Any, rule: Any) -> None:
    settings = TextSettings().but(reveal=name, threshold=0.7, gamma=0.2)
    assert settings.rule() == settings.but(order_temperature=0.0).rule() == rule
    assert settings.but(order_temperature=0.3).rule() == Tempered(rule, 0.3)


def test_settings_are_changed_by_name_and_none_changes_nothing() -> None:
    settings = find("sdar").settings
    assert settings.but() == settings.but(steps=None, threshold=None) == settings
    changed = settings.but(steps=2, block_size=8)
    assert (changed.steps, changed.block_size, changed.threshold) == (2, 8, settings.threshold)
    assert settings.steps is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treshold": 0.5}, "^unknown setting 'treshold'; did you mean threshold\\?$"),
        ({"step": 3}, "^unknown setting 'step'; did you mean steps\\?$"),
        ({"colour": 3}, "^unknown setting 'colour'; known: block_size, mask_id, steps"),
        ({"steps": 0}, "^steps is 0; pass 1 or more$"),
        ({"block_size": 0}, "block_size is 0; pass 1 or more"),
        ({"reveal": "best"}, "reveal is 'best'; pass 'ancestral', .*'static' or 'threshold'$"),
        ({"temperature": -1.0}, "temperature is -1.0; pass 0 or more"),
        ({"order_temperature": -0.1}, "order_temperature is -0.1; pass 0 or more"),
        ({"top_p": 0.0}, "top_p is 0.0; pass more than 0"),
        ({"threshold": "high"}, "threshold is 'high'; pass a number"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        find("sdar").settings.but(**change)
    assert "\n" not in str(caught.value)


def test_an_unknown_system_is_refused() -> None:
    with pytest.raises(SettingError, match="unknown system 'sadr'; known: acdit, ar, "):
        find("sadr")


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_opened_as_float32_where_that_is_faster(fast: bool, tmp_path: Path, monkeypatch: Any) -> None:
    folder = save(Checkpoint(text_network(), family="qwen3"), tmp_path / "model", dtype="bfloat16")
    monkeypatch.setattr("interlace.model.fast_bfloat16", lambda device: fast)
    assert load(folder).network.output.weight.dtype == (torch.bfloat16 if fast else torch.float32)
    assert load(folder, dtype="bfloat16").network.output.weight.dtype == torch.bfloat16


# What block_size is to a network that was trained with 8.
TEXT = {name: system for name, system in systems().items() if system.family == "text"}
BLOCKS = {name: system.block_sizes for name, system in TEXT.items()}


def test_every_text_system_says_what_a_block_size_is_to_it() -> None:
    """The systems of full attention cut the answer as they like; the causal ones decode without blocks."""
    assert (BLOCKS["llada"], BLOCKS["sdar"], BLOCKS["wedlm"]) == ("free", "trained", "none")
    for name, system in TEXT.items():
        sizes = [system.settings.but(block_size=size) for size in (8, 16)]
        one, other = (replace(system.parts(settings), objective=None) for settings in sizes)
        assert (one == other) == (BLOCKS[name] == "none"), name  # decoding, that is
        learnt, otherwise = (system.parts(settings).objective for settings in sizes)
        if BLOCKS[name] == "free":
            assert learnt == otherwise, name  # a network that knows nothing of blocks
        elif name != "ar":
            assert learnt != otherwise, name


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("given", [16, "16"])
def test_a_block_size_that_a_model_was_not_trained_for(name: str, given: Any) -> None:
    system = TEXT[name]
    network = Transformer(TransformerConfig(vocab_size=32, hidden_size=8, num_layers=1, num_heads=1, num_kv_heads=1))
    trained = None if name == "ar" else 8
    settings = system.settings if name == "ar" else system.settings.but(block_size=8, mask_id=1)
    model = Model(Checkpoint(network, None, "sdar", trained, 1), system, settings)
    assert model.with_(block_size=settings.block_size).settings == settings
    if BLOCKS[name] == "free":
        assert model.with_(block_size=given).settings.block_size == 16
        return
    said = "adapted for 8; leave it, or adapt the model with --block-size 16"
    if BLOCKS[name] == "none":
        said = f"{name} decodes without blocks; leave it out (interlace show {name} lists what it has)"
    with pytest.raises(SettingError) as caught:
        model.with_(block_size=given)
    assert str(caught.value).endswith(said)
