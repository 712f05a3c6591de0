"""Which format is written, and what is said of it: at the start of a run, by convert, and before decoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from interlace.checkpoints import families, save
from interlace.cli.command import COMMANDS
from interlace.model import load

from .conftest import checkpoint

RUN = ("--steps", 1, "--length", 32, "--batch-rows", 1, "--probe-prompts", 0, "--precision", "fp32")
QWEN2 = {"qk_norm": False, "qkv_bias": True}


def test_the_help_names_every_format() -> None:
    to = next(setting for setting in COMMANDS["convert"].settings if setting.name == "to")
    assert to.help == f"format to write: {', '.join(families())}"


@pytest.mark.parametrize(
    ("family", "shape", "system", "said"),
    [
        ("qwen3", {}, "sdar", "sdar"),
        ("qwen2", QWEN2, "fast-dllm-v2", "fast_dllm_v2"),
        ("qwen2", QWEN2, "tidar", "qwen2"),
        (
            "qwen2",
            QWEN2,
            "sdar",
            "interlace, our own: sdar cannot express out_bias=False (it would be True), "
            "qk_norm=False (it would be True)",
        ),
        ("qwen3", {}, "llada", "interlace, our own: llada cannot express qk_norm=True (it would be False)"),
    ],
)
def test_a_run_says_its_format_before_it_starts(
    family: str, shape: dict[str, Any], system: str, said: str, call: Any, corpus: Path, tmp_path: Path
) -> None:
    start, out = save(checkpoint(family, None, **shape), tmp_path / "start"), tmp_path / "out"
    result = call("adapt", "-m", start, "-s", system, "--data", corpus, "--out", out, "--block-size", 4, *RUN)
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert f"format           {said}" in lines
    assert json.loads((out / "config.json").read_text())["model_type"] in families()[said.split(",")[0]].model_types
    masks = [line for line in lines if line.startswith("mask token 1 (SGLang, LMDeploy: 151669)")]
    assert len(masks) == (said == "sdar")  # the number of another model's mask token is in the engines


def test_what_a_converted_folder_is_not(call: Any, base: str, twin: str, tmp_path: Path) -> None:
    plain = call("convert", base, "--to", "sdar", "--out", tmp_path / "plain", "--block-size", 8)
    first, engines, weights = plain.stderr.splitlines()
    assert "in the format sdar" in first
    assert engines.startswith("blocks of 8 (SGLang: 4) and mask token 1 (SGLang, LMDeploy: 151669): ")
    assert weights == (
        f"its weights are autoregressive still: interlace adapt --model {base} makes a diffusion model of them"
    )
    assert call("convert", twin, "--to", "wedlm", "--out", tmp_path / "wedlm").stderr.count("\n") == 1
    assert call("convert", twin, "--to", "sdar", "--dry-run").stderr == ""


@pytest.mark.parametrize(("source", "to"), [("qwen3", "sdar"), ("qwen3", "wedlm"), ("qwen2", "fast_dllm_v2")])
def test_an_autoregressive_folder_becomes_a_masked_one_without_changing_a_weight(
    source: str, to: str, call: Any, tmp_path: Path
) -> None:
    start = save(checkpoint(source, None, **(QWEN2 if source == "qwen2" else {})), tmp_path / source)
    done = call("convert", start, "--to", to, "--out", tmp_path / "made", "--block-size", 4)
    assert done.exit_code == 0, done.output
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "made"))
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)


def test_weights_that_never_saw_a_mask_are_decoded_with_a_word(
    call: Any, base: str, twin: str, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tidar"
    assert call("adapt", "-m", base, "-s", "tidar", "--data", corpus, "--out", out, *RUN).exit_code == 0
    assert load(out).checkpoint.family == "qwen3"  # config.json names the system
    continued, gap = ("generate", "def "), ("infill", "--prefix", "def ", "--suffix", "x")
    for command, model, system, warned in (
        (continued, base, "sdar", 1),
        (gap, base, "sdar", 1),
        (continued, base, "ar", 0),
        (continued, twin, "tidar", 0),
        (continued, out, "wedlm", 0),
    ):
        result = call(*command, "-m", model, "-s", system, "--length", 4)
        assert result.exit_code == 0, result.output
        assert result.stderr.count("that was never adapted: as sdar it writes nonsense") == warned
        assert result.stderr.count("\n") == warned
