"""Holes: in a text, between two sides, in lines of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlace.model import Model

BEFORE, AFTER = "def area(width, height):\n    return ", " * height\n"


def rows(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_hole_is_filled_as_the_model_does(call: Any, twin: str, twin_model: Model) -> None:
    given = twin_model.infill(BEFORE, AFTER, 5)
    (row,) = rows(call("infill", "--prefix", BEFORE, "--suffix", AFTER, "-m", twin, "--length", 5, "--json"))
    assert row["tokens"] == given.content.tolist() and row["forwards"] == given.forwards
    assert row["text"] == twin_model.text(given.content)
    assert row["whole"] == BEFORE + row["text"] + AFTER
    assert row["prefix_tokens"] == twin_model.encode(BEFORE) and row["suffix_tokens"] == twin_model.encode(AFTER)


def test_a_text_says_where_its_hole_is(call: Any, twin: str, twin_model: Model, tmp_path: Path) -> None:
    filled = twin_model.text(twin_model.infill(BEFORE, AFTER, 5).content)
    text = f"{BEFORE}<FILL:5>{AFTER}"
    (tmp_path / "holed.py").write_text(text)
    whole = BEFORE + filled + AFTER + "\n"
    assert call("infill", text, "-m", twin).stdout == whole
    assert call("infill", "--file", tmp_path / "holed.py", "-m", twin).stdout == whole
    assert call("infill", text.replace(":5", ""), "-n", 5, "-m", twin, "--only").stdout == filled + "\n"
    from_stdin = call("infill", "-m", twin, input=text)
    assert from_stdin.stdout.startswith(BEFORE) and from_stdin.stdout.count(" * height") >= 1


def test_sides_may_be_token_ids(call: Any, twin: str, twin_model: Model, tmp_path: Path) -> None:
    before, after = twin_model.encode(BEFORE), twin_model.encode(AFTER)
    options = ("--prefix-tokens", json.dumps(before), "--suffix-tokens", " ".join(map(str, after)))
    (row,) = rows(call("infill", *options, "-m", twin, "-n", 5, "--json"))
    assert row["tokens"] == twin_model.infill(before, after, 5).content.tolist()
    lines = [{"prefix": BEFORE, "suffix_tokens": after, "length": 5}, {"prefix_tokens": [], "suffix": "x", "length": 2}]
    (tmp_path / "gaps.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second = rows(call("infill", "--file", tmp_path / "gaps.jsonl", "-m", twin, "--json"))
    assert first["tokens"] == row["tokens"] and len(second["tokens"]) == 2


def test_an_end_is_a_hole_too(call: Any, twin: str) -> None:
    (row,) = rows(call("infill", "--prefix", "x", "-m", twin, "-n", 3, "--json"))
    assert row["suffix_tokens"] == [] and len(row["tokens"]) == 3
    (row,) = rows(call("infill", "a<FILL:0>b", "-m", twin, "--json"))
    assert (row["tokens"], row["whole"], row["forwards"]) == ([], "ab", 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no hole",), "the text has no hole; mark one with <FILL:24>"),
        (("<FILL:2> and <FILL:3>",), "the text has 2 holes; mark one"),
        (("<FILL:2>", "--prefix", "x"), "TEXT and --prefix and --suffix exclude each other"),
        (("--prefix", "x", "--prefix-tokens", "1"), "--prefix and --prefix-tokens exclude each other"),
        (("--prefix-tokens", "[[1], [2]]"), "--prefix-tokens are 2 rows; pass one"),
        (("--prefix", "x", "-n", "-2"), "the length of the hole is -2; pass 0 or more"),
        (("--prefix", "x", "-n", "300"), "exceed the model's 128 positions"),
        (("--file", "/nonexistent.py"), "cannot be read"),
    ],
)
def test_holes_that_cannot_be(arguments: tuple[str, ...], said: str, fails: Any, twin: str) -> None:
    assert said in fails("infill", *arguments, "-m", twin)


def test_next_token_models_cannot_infill(fails: Any, base: str) -> None:
    assert "next-token generation cannot infill" in fails("infill", "a<FILL:2>b", "-m", base)
