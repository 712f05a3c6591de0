"""Two processes, started as users start them, learn what one learns: copies (DDP) and slices (FSDP2), on CPUs by gloo.

``accelerate launch`` has no launcher of its own for several processes on one CPU; ``--multi_gpu`` names the one that
starts them with ``torch.distributed``, and what is found in them decides the device.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from interlace.errors import SettingError
from interlace.training.parallel import sharding

JOBS: dict[str, dict[str, Any]] = {
    "next token": {"objective": "next token", "accumulation": 2, "ema": 0.5, "probe": True},
    "two copies": {"objective": "two copies", "clip": 0.2, "probe": True},
    "muon": {"objective": "next token", "optimizer": "muon"},
    "resumed": {"objective": "two copies", "ema": 0.5},
    "untied": {"objective": "next token", "tied": False},
    "timed": {"objective": "next token", "steps": 100_000, "seconds": 1.0, "evaluate_every": 10**6},
}
if find_spec("peft"):
    JOBS["adapters"] = {"objective": "two copies", "rank": 2, "ema": 0.5, "probe": True}
    JOBS["adapters of bfloat16"] = {"objective": "two copies", "rank": 2, "half": True}
    JOBS["adapters of muon"] = {"objective": "next token", "rank": 2, "optimizer": "muon", "tied": False}
COMMON: dict[str, Any] = {"steps": 10, "keep": 9}
FORMS = {"copies": ["--multi_gpu"], "slices": ["--use_fsdp", "--fsdp_version", "2"]}


def launch(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", *options]
    command += ["--num_processes", "2", "--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", str(Path(__file__).with_name("tiny.py")), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_LOG_LEVEL": "error"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def without_the_last_steps(run: Path, to: Path, step: int) -> None:
    """A copy of the run as it was behind that checkpoint."""
    shutil.copytree(run, to)
    for path in (to / "training" / "checkpoints").iterdir():
        if int(path.name[5:]) > step:
            shutil.rmtree(path)


@pytest.fixture(scope="module", params=FORMS)
def together(request: Any, tiny: Any, alone: Any, tmp_path_factory: Any) -> tuple[Path, str]:
    """The folder of all runs in two processes, and what was said."""
    folder = tmp_path_factory.mktemp(request.param)
    without_the_last_steps(alone / "resumed", folder / "resumed", 4)
    jobs = [{**COMMON, **job, "out": str(folder / name)} for name, job in JOBS.items()]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = launch(folder, *FORMS[request.param])
    assert done.returncode == 0, done.stderr[-5000:]
    return folder, done.stdout + done.stderr


@pytest.fixture(scope="module")
def alone(tiny: Any, tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    for name, job in JOBS.items():
        if name != "timed":
            tiny.run(folder / name, **{**COMMON, **job})
    return folder


def weights(folder: Path, name: str, process: int) -> dict[str, Tensor]:
    return load_file(folder / f"weights-{list(JOBS).index(name)}-{process}.safetensors")


def checkpoint(run: Path, step: int = 10) -> dict[str, Tensor]:
    path = run / "training" / "checkpoints" / f"step-{step:08d}"
    return {f"{f.stem}/{n}": t for f in sorted(path.glob("*.safetensors")) for n, t in load_file(f).items()}


def close(one: dict[str, Tensor], other: dict[str, Tensor], atol: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=atol, rtol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", [name for name in JOBS if name != "timed"])
def test_two_processes_equal_one(tiny: Any, together: tuple[Path, str], alone: Path, name: str) -> None:
    """Weights, averages, the optimizer's state; losses, norms, measurements."""
    folder, _ = together
    # products in bfloat16 are rounded otherwise for half of the rows
    tolerance = 2e-2 if JOBS[name].get("half") else 1e-5
    close(checkpoint(folder / name), checkpoint(alone / name), tolerance)
    lines, expected = tiny.lines(folder / name), tiny.lines(alone / name)
    assert [line["step"] for line in lines] == list(range(1, 11))
    for line, other in zip(lines, expected, strict=True):
        for key in other.keys() - {"seconds", "tokens_per_second", "cut"}:
            assert line[key] == pytest.approx(other[key], abs=10 * tolerance), (line["step"], key)


@pytest.mark.parametrize("name", JOBS)
def test_every_process_ends_with_the_whole_network(together: tuple[Path, str], name: str) -> None:
    folder, _ = together
    first, second = (weights(folder, name, process) for process in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)
    if name != "timed":
        group = "average" if JOBS[name].get("ema") else "model"
        saved = checkpoint(folder / name)
        assert all(torch.equal(value, saved[f"{group}/network.{n}"]) for n, value in first.items())


def test_one_process_resumes_what_two_began(tiny: Any, together: tuple[Path, str], alone: Path, tmp_path: Path) -> None:
    folder, _ = together
    without_the_last_steps(folder / "two copies", tmp_path / "run", 4)
    tiny.run(tmp_path / "run", **{**COMMON, **JOBS["two copies"]})
    close(checkpoint(tmp_path / "run"), checkpoint(alone / "two copies"), 1e-5)


def test_only_the_first_process_speaks(together: tuple[Path, str]) -> None:
    """And writes: in the others, writing is an error."""
    _, said = together
    assert said.count("step 10/10 ") == len(JOBS) - 1
    assert sum("step " in line and "/100000" in line for line in said.splitlines()) == 1


def test_the_second_form_really_cuts_the_network(tiny: Any, request: Any, together: tuple[Path, str]) -> None:
    form = request.node.callspec.params["together"]
    assert tiny.lines(together[0] / "next token")[-1]["cut"] == (form == "slices")


class Accelerator:
    """What is asked of an accelerator before anything is cut."""

    def __init__(self, kind: str = "MULTI_GPU") -> None:
        self.distributed_type, self.num_processes = SimpleNamespace(value=kind), 2
        self.state, self.device = SimpleNamespace(), torch.device("cpu")


@pytest.mark.parametrize(
    ("kind", "environment", "message"),
    [
        ("FSDP", {"FSDP_VERSION": "1"}, "FSDP version 1 is not supported; launch with --fsdp_version 2"),
        ("FSDP", {"FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "checkpointing is not supported"),
        ("DEEPSPEED", {}, "DEEPSPEED is not supported; launch with several GPUs or with FSDP version 2"),
    ],
)
def test_other_forms_are_refused(monkeypatch: Any, kind: str, environment: dict[str, str], message: str) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=message):
        sharding(Accelerator(kind))
