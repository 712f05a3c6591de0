"""Paths, masks and systems: as text, as data, as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlace.report.pictures import path_text
from interlace.schedules import Diagonal
from interlace.systems import systems


def test_a_schedule_is_a_path(call: Any) -> None:
    result = call("show", "diagonal:steps=4,window=3,lag=2", "--units", 6)
    assert result.stdout == path_text(Diagonal(4, window=3, lag=2), 6) + "\n"
    found = json.loads(call("show", "block-by-block:steps=2", "--units", 3, "--clean", 1, "--json").stdout)
    assert [(m["units"], m["steps"]) for m in found["moves"]] == [([1], [0]), ([1], [1]), ([2], [0]), ([2], [1])]
    assert found["schedule"] == "block-by-block:steps=2" and found["clean"] == 1


def test_a_pattern_is_a_matrix(call: Any) -> None:
    """Two units of two tokens, noisy then clean: written out by hand."""
    expected = [
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1, 1],
    ]
    found = json.loads(call("show", "two-copy", "--units", 2, "--block-size", 2, "--json").stdout)
    assert found["sees"] == expected and found["copy"] == [1, 1, 1, 1, 0, 0, 0, 0] and found["unit"][:4] == [0, 0, 1, 1]
    shown = call("show", "two-copy", "--units", 2).stdout.splitlines()
    assert [[int(cell == "■") for cell in line.split()[1:]] for line in shown[-8:]] == expected


def test_packed_documents_do_not_see_each_other(call: Any) -> None:
    found = json.loads(call("show", "causal", "--units", 3, "--block-size", 1, "--documents", 2, "--json").stdout)
    assert found["sees"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]] and found["document"] == [0, 0, 1]


def test_a_pattern_takes_settings(call: Any) -> None:
    found = json.loads(call("show", "prefix-bidirectional:prefix=2", "--units", 3, "--block-size", 1, "--json").stdout)
    assert found["sees"] == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("name", list(systems()))
def test_every_system_shows_its_parts_mask_and_path(name: str, call: Any, tmp_path: Path) -> None:
    shown = call("show", name).stdout
    system = systems()[name]
    assert shown.startswith(system.title) and "■" in shown and "\nclean" in shown
    for part in ("layout", "pattern", "process", "schedule", "memory", "objective"):
        assert f"\n{part:<10} " in shown
    for setting in type(system.settings).model_fields:
        assert f"\n  {setting:<18} " in shown
    found = json.loads(call("show", name, "--units", 2, "--json", "--out", tmp_path / "picture.svg").stdout)
    assert found["name"] == name and found["path"]["units"] == 2
    assert (tmp_path / "picture.svg").read_text().startswith("<svg")


def test_a_system_takes_settings(call: Any) -> None:
    found = json.loads(call("show", "sdar:block_size=8,steps=2", "--units", 1, "--json").stdout)
    assert found["parts"]["layout"] == "Blocks(size=8, per=1)" and found["path"]["schedule"] == "block-by-block:steps=2"


def test_pictures_of_every_kind(call: Any, tmp_path: Path) -> None:
    for what, name, start in (
        ("causal", "a.svg", b"<svg"),
        ("token-by-token", "b.png", b"\x89PNG"),
        ("sdar", "c.pdf", b"%PDF"),
    ):
        result = call("show", what, "--units", 2, "--out", tmp_path / name)
        assert result.exit_code == 0 and str(tmp_path / name) in result.stderr
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "WHAT is missing; pass one of acdit, ar, "),
        (("nothing",), "'nothing' is not known; pass one of acdit, ar, "),
        (("diagonal:steps=4",), "lacks window, lag"),
        (("diagonal:steps=4,window=0,lag=1",), "window is 0; pass 1 or more"),
        (("prefix-bidirectional",), "lacks prefix; write prefix-bidirectional:prefix=1"),
        (("causal:prefix=1",), "prefix=1 is no setting of the pattern causal; it has none"),
        (("sdar:block=8",), "unknown setting 'block'; did you mean block_size?"),
        (("sdar:8",), "'8' is no setting; write name:setting=value"),
        (("sdar:steps=many",), "steps is 'many'; pass a whole number"),
        (("causal", "--units", "0"), "--units, --block-size and --documents are 1 or more"),
        (("causal", "--units", "2", "--documents", "3"), "3 documents do not fit into 2 units"),
        (("causal", "--out", "mask.txt"), "--out mask.txt is no picture; name it *.svg"),
        (("causal", "--out", "/nonexistent/mask.png"), "/nonexistent/mask.png cannot be written"),
    ],
)
def test_what_cannot_be_shown(arguments: tuple[str, ...], said: str, call: Any) -> None:
    result = call("show", *arguments)
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1


def test_systems_are_listed(call: Any) -> None:
    rows = json.loads(call("systems", "--json").stdout)
    assert [row["name"] for row in rows] == list(systems())
    assert {row["name"]: row["format"] for row in rows}["sdar"] == "sdar"
    shown = call("systems").stdout
    assert all(f"\n{name} " in shown for name in systems())


def test_a_checkpoint_is_inspected(call: Any, fails: Any, twin: str, twin_model: Any, tmp_path: Path) -> None:
    found = json.loads(call("inspect", twin, "--json").stdout)
    assert found["family"] == "sdar" and found["block_size"] == 4 and found["tokenizer"] is True
    assert found["parameters"] == sum(p.numel() for p in twin_model.network.parameters())
    shown = call("inspect", twin).stdout
    assert "blocks of 4, mask token 1" in shown
    assert "does not exist" in fails("inspect", tmp_path / "none")
    assert "PATH is missing" in fails("inspect")
