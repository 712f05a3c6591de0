"""Low-rank adapters from the command line: what is said, what is left, what goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.checkpoints import save, summary
from interlace.model import load
from interlace.nn.config import MoE

from .conftest import checkpoint

pytest.importorskip("peft")

RUN = ("--steps", 3, "--length", 32, "--batch-rows", 2, "--warmup", 1, "--evaluate-rows", 1, "--precision", "fp32")
RUN += ("--learning-rate", 0.05)
SEVEN = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"


def text(call: Any, model: Path) -> list[int]:
    return json.loads(call("generate", "def area(", "-m", model, "-n", 12, "--json").stdout)["tokens"]


def same(one: Path, other: Path) -> bool:
    pairs = zip(load(one).network.named_parameters(), load(other).network.named_parameters(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_adapted_by_adapters(call: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted"
    options = ("-m", base, "--data", corpus, "--out", out, *RUN, "--block-size", 8, "--lora", 2)
    first = call("adapt", *options)
    assert first.exit_code == 0, first.output
    said = first.stderr.splitlines()
    whole = summary(base).parameters
    # of each of two blocks: q, k, v, out, gate, up and down, and one row of the embedding
    mine = 2 * 2 * (2 * (16 + 16) + 2 * (16 + 8) + 3 * (16 + 24)) + 16
    for line in (
        f"parameters       {whole:,}, frozen",
        f"learnt           {mine:,} ({mine / whole:.2%}): adapters of rank 2, alpha 4, on {SEVEN} and 1 row of the "
        "embedding",
        f"memory           {4 * (whole + mine) / 1000:.3g} kB of weights, {12 * mine / 1000:.3g} kB to learn them, in "
        "every process; activations not counted",
    ):
        assert line in said, first.stderr
    assert first.stdout == f"{out} holds the model: SDAR, in the format sdar\n"
    for model in (out, out / "adapter"):
        found = load(model)
        assert found.system.name == "sdar" and found.settings.block_size == 8
    assert same(out, out / "adapter") and text(call, out) == text(call, out / "adapter")
    before, after = dict(load(base).network.named_parameters()), dict(load(out).network.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    names = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    assert moved == {"embed.weight", *(f"blocks.{n}.{name}.weight" for n in (0, 1) for name in names)}
    inspected = call("inspect", out / "adapter").stdout
    assert f"adapter of rank 2, {mine:,} parameters, for {base}" in inspected and "blocks of 8" in inspected
    assert call("convert", out / "adapter", "--to", "sdar", "--out", tmp_path / "whole").exit_code == 0
    assert same(out, tmp_path / "whole")

    again = call("adapt", *options)  # the run is over
    assert again.exit_code == 0 and "resumed from step-00000003" in again.stderr and same(out, tmp_path / "whole")
    refused = call("adapt", *options, "--lora-alpha", 3)
    assert refused.exit_code == 2 and "other settings (lora_alpha None -> 3.0)" in refused.stderr
    refused = call("adapt", *options[:-2])
    assert refused.exit_code == 2 and "other settings (lora 2 -> None)" in refused.stderr


def test_the_adapters_alone(call: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    for name, merge in (("merged", ()), ("alone", ("--no-merge",))):
        options = ("-m", base, "--data", corpus, "--out", tmp_path / name, *RUN, "--lora", 2, "--probe-prompts", 0)
        result = call("adapt", *options, *merge)
        assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'alone' / 'adapter'} holds the adapters: SDAR, in the format sdar\n"
    assert f"interlace generate --model {tmp_path / 'alone' / 'adapter'} " in result.stderr
    assert {file.name for file in (tmp_path / "alone").iterdir()} == {"training", "adapter"}
    assert same(tmp_path / "merged", tmp_path / "alone" / "adapter")
    # asked again for the whole model, it is written beside them
    assert call("adapt", *options).exit_code == 0 and same(tmp_path / "merged", tmp_path / "alone")


def test_a_run_goes_on_with_its_base_alone(call: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    other = save(checkpoint("qwen3", None, tied=False), tmp_path / "other")
    options = ("--data", corpus, "--out", tmp_path / "run", *RUN, "--lora", 2, "--probe-prompts", 0)
    assert call("adapt", "-m", base, *options).exit_code == 0
    result = call("adapt", "-m", other, *options)
    assert result.exit_code == 2 and "holds a run with other settings (frozen weights " in result.stderr


def test_an_autoregressive_model_goes_on_by_adapters(call: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    """No mask, so no row of the embedding."""
    out = tmp_path / "run"
    options = ("--data", corpus, "--out", out, *RUN, "--lora", 4, "--lora-targets", "v_proj,q_proj")
    result = call("train", "-m", base, *options, "--lora-dropout", 0.2)
    assert result.exit_code == 0, result.output
    assert "adapters of rank 4, alpha 8, on q_proj, v_proj\n" in result.stderr
    assert load(out / "adapter").system.name == "ar" and same(out, out / "adapter") and not same(out, Path(base))
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["trainable_token_indices"] is None


@pytest.mark.parametrize(
    ("family", "system", "shape"),
    [
        ("qwen3_moe", "sdar", {"moe": MoE(3, 2, 12), "tied": False}),
        ("qwen2", "fast-dllm-v2", {"qk_norm": False, "qkv_bias": True}),
        ("qwen3", "tidar", {}),
        ("qwen2", "wedlm", {"qk_norm": False, "qkv_bias": True, "tied": False}),
        ("llama", "llada", {"qk_norm": False}),
        ("llama", "sdar", {"qk_norm": False}),
    ],
)
def test_every_system_from_every_family(
    family: str, system: str, shape: dict[str, Any], call: Any, corpus: Path, tmp_path: Path
) -> None:
    start, out = save(checkpoint(family, None, **shape), tmp_path / "start"), tmp_path / "out"
    options = ("--data", corpus, "--out", out, *RUN, "--block-size", 8, "--probe-prompts", 0, "--lora", 2)
    result = call("adapt", "-m", start, "-s", system, *options, "--optimizer", "muon", "--ema", 0.5)
    assert result.exit_code == 0, result.output
    assert same(out, out / "adapter") and load(out / "adapter").system.name == system
    assert text(call, out) == text(call, out / "adapter")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lora-alpha", 8), "--lora-alpha is about low-rank adapters, and there are none; pass --lora RANK too"),
        (("--no-merge",), "--merge is about low-rank adapters, and there are none; pass --lora RANK too"),
        (("--lora", 0), "--lora is 0; pass 1 or more"),
        (("--lora", 2, "--lora-dropout", 1), "--lora-dropout is 1.0; pass less than 1"),
        (
            ("--lora", 2, "--lora-targets", "q_prj"),
            "lora_targets: q_prj is no matrix of this network; did you mean q_proj?",
        ),
    ],
)
def test_adapters_that_cannot_be(
    options: tuple[Any, ...], said: str, call: Any, base: str, corpus: Path, tmp_path: Path
) -> None:
    result = call("adapt", "-m", base, "--data", corpus, "--out", tmp_path / "out", *RUN, *options)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.splitlines()[-1] == f"error: {said}"


def test_a_new_model_has_nothing_to_adapt(fails: Any, tmp_path: Path) -> None:
    assert "--lora learns beside the weights of a trained model" in fails("train", "--out", tmp_path / "x", "--lora", 2)
