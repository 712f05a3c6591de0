"""Texts written by a model, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interlace.worlds.corpus import files


def test_a_corpus_is_written(call: Any, fails: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.jsonl"
    options = ("-m", base, "--data", corpus, "--length", 32, "--prompt-tokens", 16, "-n", 3, "--out", out)
    result = call("continue", *options, "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    found = json.loads(result.stdout)
    assert found["texts"] == 3 == len(rows) and found["new_tokens"] == sum(row["tokens"] for row in rows)
    taught = [document.text for document in files(corpus, "train")]
    assert all(any(row["prompt"] in text for text in taught) for row in rows)
    assert "exists; remove it" in fails("continue", *options)
    shown = call("continue", *options[:-1], tmp_path / "again.jsonl")
    assert "holds 3 texts with" in shown.stdout and "interlace adapt --data" in shown.stderr


def test_what_cannot_be_written(fails: Any, base: str, corpus: Path, tmp_path: Path) -> None:
    options = ("-m", base, "--data", corpus, "--length", 32, "--prompt-tokens", 16, "--out", tmp_path / "w.jsonl")
    for wrong, why in (
        (("--length", 8), "--length 8 leaves no room behind 16 prompt tokens"),
        (("--length", 9000), "exceeds the model's 128 positions"),
        (("-n", 0), "--texts is 0"),
        (("--batch-rows", 0), "--batch-rows is 0"),
        (("--data", "nowhere"), "corpus 'nowhere' is not found"),
    ):
        assert why in fails("continue", *options, *wrong)
    assert list(tmp_path.iterdir()) == []
