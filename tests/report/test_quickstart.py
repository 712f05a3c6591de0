"""The quickstart from end to end over a small world: what it measures, writes, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlace.errors import DataError, SettingError
from interlace.model import load
from interlace.quickstart import QuickstartSettings, quickstart


def test_every_number_has_its_model(demo_run: Any) -> None:
    numbers = demo_run.numbers
    assert json.loads((demo_run.out / "report.json").read_text()) == json.loads(json.dumps(numbers))
    assert list(numbers["models"]) == ["base", "just adapted", "twin"]
    base, adapted, twin = numbers["models"].values()
    assert [m["likelihood"]["kind"] for m in (base, adapted, twin)] == ["exact", "bound", "bound"]
    assert [p["threshold"] for p in base["completion"]] == [None]
    assert [p["threshold"] for p in twin["completion"]] == [1.0, 0.9, 0.0]
    assert base["completion"][0]["tokens_per_forward"] == 1.0
    assert [m["infilling"]["sees"] for m in (base, adapted, twin)] == ["left side", "both sides", "last block"]
    for model in (base, adapted, twin):
        assert len(model["completions"]) == 4
        for point in model["completion"]:
            assert point["tokens"] <= 4 * 15 and point["tokens_per_second"] > 0
    probes = numbers["adaptation"]["probes"]
    assert probes[0]["step"] == 0 and probes[-1]["step"] == len(numbers["adaptation"]["steps"]) > 0
    assert numbers["seed"] == 0 and numbers["machine"]["cores"] >= 1


def test_the_adapted_model_is_saved_and_differs_from_the_base(demo_run: Any, models: tuple[Path, Path]) -> None:
    import torch

    adapted, base = load(demo_run.out / "model"), load(models[0])
    assert adapted.system.name == "sdar" and adapted.checkpoint.block_size == 4 and adapted.reads_suffix_first
    pairs = zip(adapted.network.parameters(), base.network.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_nothing_but_the_results_is_left(demo_run: Any) -> None:
    assert sorted(path.name for path in demo_run.out.iterdir()) == ["model", "report.html", "report.json"]


def test_without_a_terminal_it_prints_plain_lines(demo_run: Any) -> None:
    printed = demo_run.printed
    assert "\x1b" not in printed and "\r" not in printed
    for line in ("1  Adapt", "2  Compare", "3  Infill", "tokens per second", "report.html", "held-out bound"):
        assert line in printed


def test_the_page_stands_alone_and_shows_every_number(demo_run: Any) -> None:
    page = demo_run.page
    for outside in ("http://", "https://", "@import", "url(", "<link"):
        assert outside not in page.replace("http://www.w3.org", "")
    assert "prefers-color-scheme: dark" in page and "<svg" in page
    for name, model in demo_run.numbers["models"].items():
        assert name in page and f"{model['likelihood']['nats']:.3f} nats per token" in page
        for point in model["completion"]:
            assert f"{point['tokens']:,} / {point['forwards']:,}" in page
    assert str(demo_run.out) not in page and "None" not in page and "nan" not in page


def test_what_does_not_fit_is_refused_before_the_work(models: tuple[Path, Path], tmp_path: Path) -> None:
    base, twin = (str(path) for path in models)
    with pytest.raises(SettingError, match="pass an autoregressive one with --base"):
        quickstart(QuickstartSettings(base=twin, twin=twin, out=tmp_path / "a"))
    with pytest.raises(SettingError, match="no block-diffusion model of text"):
        quickstart(QuickstartSettings(base=base, twin=base, out=tmp_path / "b"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="another folder with --out"):
        quickstart(QuickstartSettings(base=base, twin=twin, out=tmp_path / "file"))


def test_the_sweep_holds_the_threshold_and_falls() -> None:
    assert QuickstartSettings(thresholds=(0.5, 0.8), threshold=0.9).sweep == (0.9, 0.8, 0.5)
