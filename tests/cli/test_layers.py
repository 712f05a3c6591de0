"""What the layers do, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_a_table_a_page_and_numbers(call: Any, twin: str, corpus: Path, tmp_path: Path) -> None:
    options = ("--data", corpus, "--texts", 3, "--length", 40, "--threshold", -1)
    page = tmp_path / "layers.html"
    shown = call("layers", twin, *options, "--regime", "denoise", "--budget", 2, "--out", page)
    assert shown.exit_code == 0, shown.output
    assert "distance" in shown.stdout and "every key alike: distance " in shown.stdout
    assert "similarity" in shown.stdout and "fewer than 2" in shown.stderr and "--skip-layers " in shown.stderr
    text = page.read_text()
    assert "How far attention looks" in text
    assert text.startswith("<!doctype html>") and "While it denoises" in text and "data:image/svg+xml" in text
    found = json.loads(call("layers", twin, *options, "--budget", 1, "--json").stdout)
    assert len(found["distance"]) == 2 and 0 < min(found["distance"]) and 0 < found["uniform"] < 40
    assert len(found["similarity"]) == 2 and len(found["chosen"]) == 1 and found["regime"] == "clean"
    for more, chosen in (((), 1), (("--adjacent",), 2), (("--adjacent", "--protect", 1), 1)):
        left = json.loads(call("layers", twin, *options, "--budget", 2, *more, "--json").stdout)["chosen"]
        assert len(left) == chosen and (left == [2] or "--protect" not in more)
    assert "--out layers.png is no page" in call("layers", twin, "--out", "layers.png").stderr


def test_blocks_are_left_out(call: Any, twin: str) -> None:
    whole, less = (
        json.loads(call("generate", "def area(", "-m", twin, "-n", 12, "--json", *skip).stdout)
        for skip in ((), ("--skip-layers", 1))
    )
    assert whole["tokens"] != less["tokens"]
    failed = call("generate", "def area(", "-m", twin, "--skip-layers", 9)
    assert failed.exit_code == 2 and "layer 9 cannot be left out of 2 layers" in failed.stderr
