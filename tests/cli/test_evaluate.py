"""Measuring from the command line: the numbers are those of interlace.evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlace.checkpoints import save
from interlace.cli.measuring import questions
from interlace.evaluation import likelihood
from interlace.model import Model, load
from interlace.report.comparison import memory
from interlace.training.text import DataSettings, mixture

from .conftest import checkpoint

FEW = ("--texts", 3, "--prompts", 2, "--holes", 2, "--length", 6, "--prompt-tokens", 40)


def test_models_are_measured_on_the_same_text(call: Any, base: str, twin: str, twin_model: Model, corpus: Path) -> None:
    result = call("evaluate", base, twin, "--data", corpus, *FEW, "--thresholds", "1.0,0.01", "--json", "--draws", 2)
    assert result.exit_code == 0, result.output
    first, second = map(json.loads, result.stdout.splitlines())
    assert [first["system"], second["system"]] == ["ar", "sdar"]
    assert [first["likelihood"]["kind"], second["likelihood"]["kind"]] == ["exact", "bound"]
    assert first["likelihood"]["tokens"] == second["likelihood"]["tokens"]
    assert [p["threshold"] for p in first["points"]] == [None]
    assert [p["threshold"] for p in second["points"]] == [1.0, 0.01]
    sure, fast = second["points"]
    assert fast["tokens_per_forward"] > sure["tokens_per_forward"]
    assert sure["sees_suffix"] is True and first["points"][0]["sees_suffix"] is False
    for point in (*first["points"], *second["points"]):
        assert point["prompts"] == 2 and point["holes"] == 2 and 0 <= point["parse_rate"] <= 1
        assert point["parse_interval"][0] <= point["parse_rate"] <= point["parse_interval"][1]

    documents = list(mixture(DataSettings(data=str(corpus)), "heldout"))
    asked = questions(documents, twin_model.tokenizer, 3, 2, 2, 40, 0)
    assert second["likelihood"]["nats"] == pytest.approx(likelihood(twin_model, asked.texts, 2).nats)


def test_a_table_for_people(call: Any, twin: str, corpus: Path) -> None:
    result = call("evaluate", twin, "--data", corpus, *FEW, "--thresholds", "0.9")
    assert result.exit_code == 0, result.output
    assert "held-out likelihood" in result.stdout and "bound" in result.stdout
    assert "tokens per forward" in result.stdout and "completion and infilling" in result.stdout


def test_models_side_by_side(call: Any, base: str, twin: str, corpus: Path, tmp_path: Path) -> None:
    """Models of several systems, each swept over its own dial; a page, and a table in the terminal."""
    start, tidar, wedlm = save(checkpoint("qwen3", None), tmp_path / "start"), tmp_path / "tidar", tmp_path / "wedlm"
    random = tmp_path / "random"
    run = ("--data", corpus, "--steps", 1, "--length", 32, "--batch-rows", 1, "--probe-prompts", 0)
    for system, out in (("tidar", tidar), ("wedlm", wedlm), ("diffusion-gemma", random)):
        made = call("adapt", "-m", start, "-s", system, "--out", out, "--block-size", 4, *run, "--precision", "fp32")
        assert made.exit_code == 0, made.output
    page = tmp_path / "pages" / "frontier.html"
    options = ("--data", corpus, *FEW, "--thresholds", "1.0,0.5", "--out", page)
    result = call("compare", base, twin, tidar, wedlm, random, *options)
    assert result.exit_code == 0, result.output
    assert "memory and work" in result.stdout and "entropy 0.4" in result.stdout and f"{page} shows" in result.stderr
    assert "enough 0.05" in result.stdout
    text = page.read_text()
    assert text.startswith("<!doctype html>") and 'class="mark s4"' in text and "<polyline" in text
    for name in (base, twin, str(tidar), str(wedlm), str(random)):
        assert name in text
    rows = [json.loads(line) for line in call("compare", base, tidar, *options, "--json").stdout.splitlines()]
    assert [len(row["points"]) for row in rows] == [1, 1]
    assert [row["likelihood"]["kind"] for row in rows] == ["exact", "exact"]
    assert (
        rows[1]["points"][0]["slots_per_token"] > rows[0]["points"][0]["slots_per_token"] == pytest.approx(1, abs=0.2)
    )
    config = load(base).network.config
    # autoregression is fed the token fixed last; TiDAR K + K^2, and never more of the row than it had drafts
    (ar,), (drafted,) = (row["points"] for row in rows)
    assert ar["largest_later_forward"] == 1 and ar["largest_first_forward"] > 1
    assert drafted["largest_later_forward"] >= 4 + 4 * 4
    assert drafted["largest_first_forward"] >= ar["largest_first_forward"] + 4 * 4 and ar["peak_bytes"] is None
    assert "largest forward" in text and "peak MB" not in text
    assert rows[0]["cache_bytes_per_token"] == 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4
    assert "--out frontier.png is no page" in call("compare", base, "--out", "frontier.png").stderr


def test_a_memory_that_keeps_nothing_takes_nothing(call: Any, twin: str, corpus: Path) -> None:
    few = ("--data", corpus, "--texts", 0, "--prompts", 1, "--holes", 0, "--length", 4, "--thresholds", "1.0", "--json")
    (kept, none) = (json.loads(call("evaluate", twin, *how, *few).stdout) for how in ((), ("--system", "llada")))
    assert kept["cache_bytes_per_token"] > none["cache_bytes_per_token"] == 0
    (point,) = none["points"]  # every forward is the whole row again
    assert point["largest_later_forward"] == point["largest_first_forward"] > 4


def test_what_a_gpu_took_is_a_column_where_one_was_asked() -> None:
    point = {"slots_per_token": 2.0, "largest_first_forward": 30, "largest_later_forward": 20, "peak_bytes": None}
    models = [
        {"weight_bytes": 2_000_000, "cache_bytes_per_token": 1024, "points": [point, point | {"slots_per_token": 3.0}]},
        {"weight_bytes": 1_000_000, "cache_bytes_per_token": 0, "points": []},
    ]
    head, rows = memory(models)
    assert rows == [["2.0", "1,024", "2.00 to 3.00", "30", "20"], ["1.0", "0", "–", "–", "–"]]
    assert len(head) == 5
    models[0]["points"][1]["peak_bytes"] = 5_000_000
    head, rows = memory(models)
    assert head[-1] == "peak MB" and [row[-1] for row in rows] == ["5", "–"]


def test_text_that_is_no_code(call: Any, twin: str, tmp_path: Path) -> None:
    lines = [json.dumps({"body": f"note {n}: the width times the height is the area. " * 4}) for n in range(40)]
    (tmp_path / "notes.jsonl").write_text("\n".join(lines))
    options = ("--data", tmp_path / "notes.jsonl", "--field", "body", *FEW, "--thresholds", "0.9", "--json")
    result = call("evaluate", twin, *options)
    assert result.exit_code == 0, result.output
    (point,) = json.loads(result.stdout)["points"]
    assert point["tokens_per_forward"] > 0 and point["parse_rate"] is None and point["exact_match"] is None
    assert "the held-out text is not Python" in result.stderr


def test_as_many_questions_as_there_is_text_for(call: Any, base: str, corpus: Path) -> None:
    result = call("evaluate", base, "--data", corpus, "--texts", 4000, "--prompts", 0, "--holes", 0, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["points"] == [] and 0 < found["likelihood"]["texts"] < 4000
    assert f"the held-out text is enough for {found['likelihood']['texts']} texts, not for 4000" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "MODELS is missing"),
        (("MODEL", "--thresholds", "0.9,high"), "--thresholds '0.9,high' are no numbers; write 0.9,0.8"),
        (("MODEL", "--texts", "-1"), "--texts, --prompts and --holes are 0 or more"),
        (("MODEL", "--length", "0"), "--draws, --length, --batch-rows and --prompt-tokens 1 or more"),
        (("MODEL", "--thresholds", "-1"), "threshold is -1.0; pass 0 or more"),
        (("nowhere",), "nowhere does not exist"),
    ],
)
def test_measurements_that_cannot_be(arguments: tuple[str, ...], said: str, call: Any, twin: str, corpus: Path) -> None:
    given = [twin if a == "MODEL" else a for a in arguments]
    result = call(
        "evaluate",
        *given,
        "--data",
        corpus,
        *(FEW if "--length" not in arguments and "--texts" not in arguments else ()),
    )
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: ") and said in result.stderr
