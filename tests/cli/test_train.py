"""Training from the command line: what is said, what is left, how it goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.checkpoints import save, summary
from interlace.model import load
from interlace.nn.config import MoE

from .conftest import checkpoint

RUN = ("--steps", 2, "--length", 32, "--batch-rows", 2, "--warmup", 1, "--evaluate-rows", 1, "--precision", "fp32")
SHAPE = ("--vocab-size", 270, "--hidden-size", 16, "--intermediate-size", 16, "--num-layers", 1, "--num-heads", 2)
SHAPE += ("--num-kv-heads", 1, "--head-dim", 8, "--max-positions", 64)


def test_a_new_model(call: Any, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    result = call("train", "--data", corpus, "--out", out, *RUN, *SHAPE, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["step"] == 2 and found["system"] == "ar" and found["held_out_loss"] > 0
    about = summary(out)
    assert about.family == "qwen3" and about.config.hidden_size == 16 and about.tokenizer
    assert f"parameters       {about.parameters:,}" in result.stderr
    assert "tokens per step  64 (2 rows of 32)" in result.stderr


def test_a_model_adapted(call: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted"
    options = ("-m", base, "--data", corpus, "--out", out, *RUN, "--block-size", 8, "--evaluate-every", 1)
    first = call("adapt", *options, "--suffix-first", 0.5)
    assert first.exit_code == 0, first.output
    said = first.stderr.splitlines()
    for line in (
        f"base             {base} (qwen3)",
        "system           SDAR, arXiv:2510.06303",
        "block_size       8",
        "mask token       <|MASK|>, id 1",
        "tokens per step  64 (2 rows of 32)",
        "steps            2",
    ):
        assert line in said, line
    assert any(line.startswith("rows ") and "per epoch" in line for line in said)
    assert said.index("steps            2") < next(i for i, line in enumerate(said) if line.startswith("step 1/2"))
    metrics = [json.loads(line) for line in (out / "training/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [1, 2]
    assert all(row["tokens_per_forward"] > 0 and 0 <= row["parse_rate"] <= 1 for row in metrics)
    assert f"{out} holds the model: SDAR, in the format sdar\n" == first.stdout
    assert f"interlace generate --model {out}" in first.stderr

    model = load(out)
    assert model.system.name == "sdar" and model.settings.block_size == 8 and model.reads_suffix_first
    row = json.loads(call("generate", "def area(", "-m", out, "-n", 5, "--json").stdout)
    assert len(row["tokens"]) == 5

    again = call("adapt", *options, "--suffix-first", 0.5, "--json")  # the run is over: nothing more is trained
    assert again.exit_code == 0 and f"{out}, resumed from step-00000002" in again.stderr
    found = json.loads(again.stdout)
    assert found["step"] == 2 and found["block_size"] == 8 and found["out"] == str(out)


SHAPES: dict[str, dict[str, Any]] = {
    "qwen2": {"qk_norm": False, "qkv_bias": True},
    "qwen3": {},
    "qwen3_moe": {"moe": MoE(3, 2, 10), "tied": False},
    "llama": {"qk_norm": False},
}
FORMATS = [
    ("qwen3", "sdar", "sdar", {}),
    ("qwen3_moe", "sdar", "sdar", {}),
    ("qwen3", "efficient-dlm", "sdar", {"half_life": 0.25}),
    ("qwen2", "fast-dllm-v2", "fast_dllm_v2", {}),
    ("qwen3", "fast-dllm-v2", "interlace", {"sub_block_size": 2}),
    ("llama", "sdar", "interlace", {}),
    ("qwen3", "tidar", "qwen3", {"trust": 0.5}),
    ("qwen2", "tidar", "qwen2", {}),
    ("qwen3", "diffusion-gemma", "qwen3", {"enough": 0.5}),
    ("llama", "diffusion-gemma", "llama", {"patience": 2, "cooling": 1.0}),
    ("qwen2", "wedlm", "wedlm", {}),
    ("qwen2", "dream", "dream", {"cache": "dual"}),
    ("llama", "llada", "llada", {}),
    ("qwen3", "wedlm", "wedlm", {}),
]


@pytest.mark.parametrize(("base", "system", "family", "settings"), FORMATS, ids=lambda x: str(x))
def test_every_system_from_every_family(
    base: str, system: str, family: str, settings: dict[str, Any], call: Any, corpus: Path, tmp_path: Path
) -> None:
    """The published format where it can express the network, else our own; what is loaded again is the same system."""
    start, out = save(checkpoint(base, None, **SHAPES[base]), tmp_path / "start"), tmp_path / "out"
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    options = ("--data", corpus, "--out", out, *RUN, "--block-size", 8, "--probe-prompts", 0)
    result = call("adapt", "-m", start, "-s", system, *options, *changes)
    assert result.exit_code == 0, result.output
    assert summary(out).family == family and f"in the format {family}" in result.stdout
    model = load(out)
    assert model.system.name == system and model.settings.block_size == 8
    assert settings.items() <= model.settings.model_dump().items()
    row = json.loads(call("generate", "def area(", "-m", out, "-n", 9, "--json").stdout)
    assert row["stopped"] or len(row["tokens"]) == 9


def test_a_model_adapted_again_is_the_new_system(call: Any, corpus: Path, tmp_path: Path) -> None:
    """What the first adaptation named in config.json is gone."""
    start = save(checkpoint("qwen3", None), tmp_path / "start")
    for system, settings in (("efficient-dlm", ("--set", "half_life=0.25")), ("sdar", ())):
        options = ("--data", corpus, "--out", tmp_path / system, *RUN, "--block-size", 8, "--probe-prompts", 0)
        result = call("adapt", "-m", start, "-s", system, *options, *settings)
        assert result.exit_code == 0, result.output
        assert load(tmp_path / system).system.name == system
        start = tmp_path / system
    assert "system" not in json.loads((start / "config.json").read_text())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["half_life"], "--set 'half_life' is no setting, or is given twice; write --set NAME=VALUE"),
        (["half_life=1", "half-life=2"], "is no setting, or is given twice"),
        (["halflife=1"], "unknown setting 'halflife'; did you mean half_life?"),
        (["half_life=soon"], "half_life is 'soon'; pass a number"),
        (["half_life=-1"], "half_life is '-1'; pass more than 0"),
        (["block_size=4"], "block_size is no other setting; pass block_size itself"),
    ],
)
def test_settings_that_cannot_be(given: list[str], said: str, call: Any, base: str, tmp_path: Path) -> None:
    changes = [part for one in given for part in ("--set", one)]
    options = ("-m", base, "-s", "efficient-dlm", "--block-size", 8, "--out", tmp_path / "out", *RUN)
    result = call("adapt", *options, *changes)
    assert result.exit_code == 2 and said in " ".join(result.stderr.split()), result.stderr


def test_the_corpus_is_read_once(
    call: Any, base: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To be announced and to be trained on; and once what is held out of it."""
    from interlace.training import text

    read: list[str] = []
    mixture = text.mixture
    monkeypatch.setattr(text, "mixture", lambda data, split: read.append(split) or mixture(data, split))
    result = call("adapt", "-m", base, "--data", corpus, "--out", tmp_path / "run", *RUN, "--probe-prompts", 0)
    assert result.exit_code == 0 and read == ["train", "heldout"]
    assert any(line.startswith("rows ") for line in result.stderr.splitlines())


def test_settings_of_another_run_are_refused(call: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    options = ("-m", base, "--data", corpus, "--out", tmp_path / "run", *RUN, "--probe-prompts", 0)
    assert call("adapt", *options).exit_code == 0
    result = call("adapt", *options, "--seed", 1)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(
        f"error: {tmp_path / 'run'} holds a run with other settings (seed 0 -> 1)"
    )


def test_a_trained_model_goes_on(call: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    """In its own format and with its own tokenizer; the weights move, from where they were."""
    out = tmp_path / "run"
    result = call("train", "-m", base, "--data", corpus, "--out", out, *RUN, "--learning-rate", 1e-4)
    assert result.exit_code == 0, result.stderr
    assert f"{base} (qwen3)" in result.stderr
    before, after = load(base), load(out)
    assert after.tokenizer.to_str() == before.tokenizer.to_str() and after.checkpoint.family == "qwen3"
    moved = [(a - b).abs().max() for a, b in zip(before.network.parameters(), after.network.parameters(), strict=True)]
    assert 0 < max(moved) < 1e-3
    refused = call("train", "-m", base, "--out", tmp_path / "other", "--num-layers", 3, "--data", corpus)
    assert refused.exit_code == 2 and "--model brings its own shape" in refused.stderr


@pytest.mark.parametrize("command", ["train", "adapt"])
def test_a_corpus_that_cannot_be_is_refused_before_anything_is_announced(
    command: str, fails: Any, base: str, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("alone")
    (tmp_path / "lines.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    given = ("-m", base) if command == "adapt" else ("--num-layers", 1)
    for name, said in (
        ("nothing", "is not found"),
        ("one", "a single document"),
        ("lines.jsonl", "line 2: no text in field"),
    ):
        assert said in fails(command, *given, "--data", tmp_path / name, "--out", tmp_path / "run", "--length", 16)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--out is missing (directory of the run: checkpoints, metrics and the finished model)"),
        (("--out", "OUT", "--steps", "0"), "--steps is 0; pass 1 or more"),
        (("--out", "OUT", "--shape", "steep"), "--shape is 'steep'; pass 'constant', 'wsd' or 'cosine'"),
        (("--out", "OUT", "--length", "64", "--data", "nowhere"), "corpus 'nowhere' is not found"),
        (("--out", "OUT", "--model", "nowhere"), "nowhere does not exist; pass a folder"),
        (("--out", "OUT", "--system", "acdit"), "train the others by interlace train-clips --system acdit"),
        (("--out", "OUT", "--length", "256"), "rows of 256 tokens exceed the model's 128 positions; lower length"),
        (
            ("--out", "OUT", "--length", "64", "--block-size", "7"),
            "rows of 64 tokens do not hold whole blocks of 7; change length",
        ),
    ],
)
def test_runs_that_cannot_be(options: tuple[str, ...], said: str, call: Any, base: str, tmp_path: Path) -> None:
    given = ["--model", base] if "--model" not in options else []
    result = call("adapt", *given, *(str(tmp_path / "out") if o == "OUT" else o for o in options))
    assert result.exit_code == 2 and result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and said in last


def test_an_interrupt_says_how_to_go_on(
    call: Any, base: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import interlace.recipes

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interlace.recipes, "adapt", stopped)
    options = ("adapt", "-m", base, "--data", corpus, "--out", tmp_path / "run", *RUN)
    result = call(*options)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "stopped; the same command starts anew: there is no checkpoint yet"
    place = tmp_path / "run/training/checkpoints/step-00000001"
    place.mkdir(parents=True)
    (place / "state.json").write_text("{}")
    assert call(*options).stderr.splitlines()[-1] == f"stopped; the same command goes on from {place}"


@pytest.mark.slow
def test_two_processes_are_one_run(base: str, corpus: Path, tmp_path: Path) -> None:
    """accelerate starts two; the first one speaks; the weights are those of one process."""
    options = [str(o) for o in ("adapt", "-m", base, "--data", corpus, *RUN, "--probe-prompts", 0)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]  # or CPUs
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    launch += ["-m", "interlace", *options, "--out", str(tmp_path / "two")]
    two = subprocess.run(launch, capture_output=True, text=True, env=environment, timeout=600)
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("holds the model") == 1 and two.stderr.count("mask token  ") == 1
    assert "2 x cpu" in two.stderr
    one = [sys.executable, "-m", "interlace", *options, "--out", str(tmp_path / "one")]
    subprocess.run(one, check=True, capture_output=True, env=environment, timeout=600)
    first, second = (load(tmp_path / name).network.state_dict() for name in ("one", "two"))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=1e-5, rtol=1e-4)
