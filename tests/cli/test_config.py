"""Settings from a file, and as a file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from interlace.cli import COMMANDS

PLACES: dict[str, list[str]] = {"evaluate": ["somewhere"]}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_printed_reads_back_as_the_same(name: str, call: Any, tmp_path: Path) -> None:
    first = call(name, *PLACES.get(name, []), "--print-config")
    assert first.exit_code == 0 and first.stderr == ""
    file = tmp_path / "run.toml"
    file.write_text(first.stdout)
    tomllib.loads(first.stdout)
    assert call(name, "--config", file, "--print-config").stdout == first.stdout


def test_an_option_wins_over_the_file_and_the_file_over_the_default(call: Any, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('steps = 7\nseconds = 3\ntensorboard = true\nout = "a"\n')
    shown = call("adapt", "--config", tmp_path / "run.toml", "--steps", 9, "--no-tensorboard", "--print-config").stdout
    found = tomllib.loads(shown)
    assert (found["steps"], found["seconds"], found["tensorboard"], found["out"]) == (9, 3.0, False, "a")
    assert found["batch_rows"] == 32


def test_every_kind_of_value_reads_back(call: Any, tmp_path: Path) -> None:
    options = ("--stop", 'a "quoted"\tline\n', "--stop", "é", "--top-p", 0.5, "--echo", "--seed", -3, "--gamma", "inf")
    shown = call("generate", *options, "--print-config").stdout
    found = tomllib.loads(shown)
    assert found["stop"] == ['a "quoted"\tline\n', "é"] and found["echo"] is True
    assert (found["top_p"], found["seed"], found["gamma"]) == (0.5, -3, float("inf"))


def test_a_json_file_is_read_too(call: Any, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"length": 5, "stop": ["\n\n"], "threshold": 0.5}))
    found = tomllib.loads(call("generate", "--config", tmp_path / "run.json", "--print-config").stdout)
    assert (found["length"], found["stop"], found["threshold"]) == (5, ["\n\n"], 0.5)


def test_the_file_reaches_the_run(call: Any, twin: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f'model = "{twin}"\nlength = 3\n')
    row = json.loads(call("generate", "def", "--config", tmp_path / "run.toml", "--json").stdout)
    assert len(row["tokens"]) == 3


def test_what_is_looked_at_stands_in_a_file_too(call: Any, fails: Any, tmp_path: Path) -> None:
    file = tmp_path / "look.toml"
    file.write_text('what = "diagonal:steps=2,window=2,lag=1"\nunits = 3\n')
    assert call("show", "--config", file).stdout == call("show", "diagonal:steps=2,window=2,lag=1", "--units", 3).stdout
    assert json.loads(call("show", "causal", "--config", file, "--json").stdout)["unit"][-1] == 2
    file.write_text("seed = true\nname = 3\n")
    assert "name is 3; pass a text" in fails("reproduce", "--config", file)
    file.write_text("units = 3\n")
    assert "unknown setting 'units'" in fails("systems", "--config", file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch_row = 1", "unknown setting 'batch_row'; did you mean batch_rows?"),
        ("batch-rows = 1", "unknown setting 'batch-rows'; did you mean batch_rows?"),
        ("zzz = 1", "unknown setting 'zzz'; known: model, system, block_size, set, teacher"),
        ("[training]\nsteps = 1", "unknown setting 'training'"),
        ("json = true", "unknown setting 'json'"),
        ('steps = "many"', "steps is 'many'; pass a whole number"),
        ("steps = 1\nsteps = 2", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused(text: str, said: str, fails: Any, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    message = fails("adapt", "--config", tmp_path / "run.toml", "--print-config")
    assert "run.toml" in message and said in message


def test_a_file_nested_too_deeply(fails: Any, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[" * 100_000)
    assert "is not JSON" in fails("adapt", "--config", tmp_path / "run.json")


def test_a_file_that_is_none(fails: Any, tmp_path: Path) -> None:
    assert "cannot be read" in fails("adapt", "--config", tmp_path / "none.toml")
    (tmp_path / "list.json").write_text("[1]")
    assert "holds no table" in fails("adapt", "--config", tmp_path / "list.json")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    assert "not UTF-8" in fails("adapt", "--config", tmp_path / "bytes.toml")


def test_a_value_out_of_range_is_refused_by_the_settings(fails: Any, base: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f'model = "{base}"\nout = "{tmp_path / "out"}"\nema = 1.5\n')
    assert fails("adapt", "--config", tmp_path / "run.toml") == "--ema is 1.5; pass less than 1"
    assert not (tmp_path / "out").exists()
