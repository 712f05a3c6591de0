"""Adaptation under a teacher, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.model import load
from interlace.recipes import adapt
from interlace.training.settings import TrainSettings
from interlace.training.text import DataSettings

RUN = ("--steps", 2, "--length", 32, "--batch-rows", 2, "--warmup", 0, "--evaluate-rows", 2, "--precision", "fp32")
RUN += ("--learning-rate", 0.05, "--probe-prompts", 0, "--evaluate-every", 1)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "training" / "metrics.jsonl").read_text().splitlines()]


def test_a_teacher_changes_what_is_learnt_and_not_what_is_measured(
    call: Any, base: str, corpus: Path, tmp_path: Path
) -> None:
    options = ("-m", base, "--data", corpus, *RUN)
    still = ("--learning-rate", 1e-12)
    for name, more in (("plain", still), ("taught", (*still, "--teacher", base))):
        done = call("adapt", *options, *more, "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    plain, taught = (metrics(tmp_path / name) for name in ("plain", "taught"))
    assert [line["held_out_loss"] for line in plain] == pytest.approx([line["held_out_loss"] for line in taught])
    assert all(abs(a["loss"] - b["loss"]) > 1e-4 for a, b in zip(plain, taught, strict=True))

    surer = ("--teacher", base, "--teacher-temperature", 0.5)
    assert call("adapt", *options, *still, *surer, "--out", tmp_path / "surer").exit_code == 0
    sure = metrics(tmp_path / "surer")
    assert all(abs(a["loss"] - b["loss"]) > 1e-4 for a, b in zip(sure, taught, strict=True))
    other = call("adapt", *options, *still, "--teacher", base, "--out", tmp_path / "surer")
    assert other.exit_code == 2 and f"(teacher {base} at temperature 0.5 -> {base})" in other.stderr

    out = tmp_path / "learnt"
    assert call("adapt", *options, "--out", out, "--teacher", base).exit_code == 0
    again = call("adapt", *options, "--out", out, "--teacher", base)
    assert again.exit_code == 0 and "resumed from step-00000002" in again.stderr
    refused = call("adapt", *options, "--out", out)
    assert refused.exit_code == 2 and f"other settings (teacher {base} -> None)" in refused.stderr


def test_the_base_may_be_its_own_teacher_and_stays_what_it_was(base: str, corpus: Path, tmp_path: Path) -> None:
    data = DataSettings(data=str(corpus), length=32)
    ends = []
    for name in ("model", "path"):
        model = load(base, system="ar", dtype=torch.float32)
        training = TrainSettings(out=tmp_path / name, steps=3, batch_rows=2, warmup=0, precision="fp32")
        made = adapt(model, training, data, teacher=model if name == "model" else base)
        ends.append(made.network.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_teachers_that_cannot_teach(call: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    options = ("-m", base, "--data", corpus, "--out", tmp_path / "out", *RUN)
    for more, why in (
        (("--teacher", "twin"), "is a sdar model; a teacher predicts the next token"),
        (("--teacher", "base"), "unlike the student; pass one with the student's tokenizer"),
        (("--teacher", base, "--system", "diffusion-gemma"), "UniformTokens has none"),
        (("--teacher", base, "--system", "ar"), "NextTokenLoss has no masked tokens"),
        (("--teacher", tmp_path / "nothing"), "nothing"),
        (("--teacher", base, "--teacher-temperature", 0), "teacher's temperature is 0.0; pass a number above 0"),
        (("--teacher-temperature", 0.5), "that of a teacher, and there is none"),
    ):
        refused = call("adapt", *options, *more)
        assert refused.exit_code == 2, (more, refused.output)
        assert why in refused.stderr.replace("\n", " "), refused.stderr
        assert not (tmp_path / "out" / "training" / "checkpoints").exists()
