"""Images and clips from the command line: trained, sampled, written; and what is refused."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from interlace.checkpoints import save
from interlace.cli.settings import CLIPS
from interlace.cli.train_clips import _BETTER
from interlace.clips import ClipShape
from interlace.model import load
from interlace.systems import find
from interlace.training.settings import TrainSettings

RUN = ("--steps", 2, "--batch-rows", 2, "--warmup", 1, "--evaluate-rows", 2, "--precision", "fp32")
SHAPE = ("--hidden-size", 32, "--num-layers", 1, "--num-heads", 2)
WORLD = ("--shapes", "circle,cross", "--motions", "east", "--colours", "red", "--colours", "blue", "--speeds", "1,1")
WORLD += ("--samples", 4, "--patch", 16, "--drop-label", 0.5)


def trained(call: Any, out: Path, *options: object) -> Any:
    result = call("train-clips", "--out", out, *RUN, *SHAPE, *options)
    assert result.exit_code == 0, result.output
    scatter(out)
    return result


def scatter(out: Path) -> None:
    """Weights with nothing left at zero, so that labels and noise count after two steps."""
    model = load(out)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    save(model.checkpoint, out)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of circles and crosses that go east."""
    return made(tmp_path_factory, "clips", *WORLD)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made(tmp_path_factory, "digits", "--data", "digits", "--drop-label", 0.0)


def made(factory: pytest.TempPathFactory, name: str, *options: object) -> str:
    from typer.testing import CliRunner

    from interlace.cli import app

    out = factory.mktemp("models") / name
    trained(lambda *a: CliRunner().invoke(app, [str(x) for x in a]), out, *options)
    return str(out)


def sampled(call: Any, *options: object) -> list[dict[str, Any]]:
    result = call("sample", *options, "--steps", 2, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- train -----------------------------------------------------------------------------------------------------------


def test_a_run_says_what_it_is_made_of_and_leaves_a_model(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = call("train-clips", "--out", out, *RUN, *SHAPE, *WORLD)
    assert first.exit_code == 0, first.output
    said = first.stderr.splitlines()
    for line in (
        "new model        1 layers of 32",
        "system           ACDiT, arXiv:2412.07720",
        "units            4 of 4 tokens",
        "data             shapes, 2 labels, 4 clips",
        "tokens per step  32 (2 rows of 16)",
        f"try it    interlace sample --model {out}",
    ):
        assert line in said, line
    assert first.stdout == f"{out} holds the model: ACDiT, in the format interlace\n"
    settings: Any = load(out).settings
    assert (settings.patch, settings.drop_label, settings.predicts, settings.frames) == (16, 0.5, "clean", 16)

    again = call("train-clips", "--out", out, *RUN, *SHAPE, *WORLD, "--json")  # over: nothing more is trained
    assert again.exit_code == 0 and f"{out}, resumed from step-00000002" in again.stderr
    found = json.loads(again.stdout)
    assert found["step"] == 2 and found["system"] == "acdit" and found["held_out_loss"] > 0

    other = call("train-clips", "--out", out, *RUN, *SHAPE, *WORLD, "--predicts", "velocity")
    assert other.exit_code == 2
    assert "holds a run with other settings (predicts clean -> velocity)" in other.stderr.splitlines()[-1]


def test_the_gaussian_path_needs_no_second_option(call: Any, tmp_path: Path) -> None:
    trained(call, tmp_path / "run", *WORLD, "--noise", "gaussian")
    settings: Any = load(tmp_path / "run").settings
    assert (settings.noise, settings.predicts) == ("gaussian", "velocity")


def test_the_file_reaches_the_run(call: Any, tmp_path: Path) -> None:
    shown = call("train-clips", *RUN, *SHAPE, *WORLD, "--out", tmp_path / "run", "--print-config").stdout
    found = tomllib.loads(shown)
    assert found["shapes"] == ["circle,cross"] and found["colours"] == ["red", "blue"] and found["speeds"] == [1.0, 1.0]
    (tmp_path / "run.toml").write_text(shown)
    assert call("train-clips", "--config", tmp_path / "run.toml").exit_code == 0
    data = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert data["shapes"] == ["circle", "cross"] and data["colours"] == ["red", "blue"] and data["seed"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--system", "sdar"), "sdar generates text; train_clips takes systems of images and video"),
        (("--system", "acdc"), "unknown system 'acdc'"),
        (("--data", "faces"), "--data is 'faces'; pass 'shapes' or 'digits'"),
        (("--shapes", "circle,star"), "shapes are circle, star; pass some of circle, square, triangle, cross"),
        (("--speeds", "1"), "--speeds is [1.0]; pass more of them"),
        (("--patch", "5"), "patch 5 does not divide the 16 pixels of shapes"),
        (("--noise", "pink"), "noise is 'pink'; pass flow or gaussian"),
        (("--hidden-size", "30"), "hidden_size 30 cannot be cut into 4 heads"),
        (("--frames", "6"), "6 frames cannot be cut into units of 4; pass a multiple of it"),
    ],
)
def test_runs_that_cannot_be(options: tuple[str, ...], said: str, fails: Any, tmp_path: Path) -> None:
    assert said in fails("train-clips", "--out", tmp_path / "run", "--samples", 2, *options)


def test_the_options_of_the_system_have_its_words() -> None:
    settings = type(find("acdit").settings)
    of_sampling, of_data = {"steps", "solver"}, {"height", "width", "mean", "deviation"}
    assert {option.name for option in CLIPS} == set(settings.model_fields) - of_sampling - of_data
    for option in CLIPS:
        assert option.help == settings.model_fields[option.name].description and option.default is None
    assert set(_BETTER) <= set(TrainSettings.model_fields) and not set(_BETTER) & set(ClipShape.model_fields)


# --- sample ----------------------------------------------------------------------------------------------------------


def test_a_sample_is_a_strip_a_gif_and_a_table(call: Any, clips: str, tmp_path: Path) -> None:
    result = call("sample", "--model", clips, "--steps", 2, "-n", 3, "--out", tmp_path / "new" / "made")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["clip", "label", "seed", "valid"]
    assert [line[:3] for line in lines[1:]] == [
        ["0", "circle-east", "0"],
        ["1", "cross-east", "1"],
        ["2", "circle-east", "2"],
    ]
    assert result.stderr.splitlines()[0] == "0 of 3 clips are valid"
    assert result.stderr.rstrip().endswith(f"see {tmp_path}/new/made.png and {tmp_path}/new/made.gif")
    with Image.open(tmp_path / "new" / "made.png") as strip:
        assert strip.size == (4 * (16 * 17 - 1), 4 * (3 * 17 - 1))  # a row a clip, 16 frames of 16 pixels
    with Image.open(tmp_path / "new" / "made.gif") as gif:
        assert gif.size == (8 * 33, 8 * 33) and gif.n_frames > 1  # two by two, the last place empty


def test_a_clip_is_the_same_alone_and_in_a_batch(call: Any, clips: str, tmp_path: Path) -> None:
    rows = sampled(call, "-m", clips, "-n", 3, "--seed", 5, "--scale", 1, "--guidance", 2, "--out", tmp_path)
    assert [row["seed"] for row in rows] == [5, 6, 7] and rows[0]["files"][0] == str(tmp_path / "sample.png")
    assert rows[1] | {"seconds": 0, "files": 0} == {
        "clip": 1, "label": 24, "name": "cross-east", "seed": 6, "frames": 16, "valid": False,
        "forwards": 16, "seconds": 0, "files": 0,
    }  # fmt: skip  # 4 units of 2 steps, with and without the label
    others = {
        "alone": ("--labels", "cross-east", "--seed", 6),
        "by number": ("--labels", 24, "--seed", 6, "--memory", "none"),
        "other seed": ("--labels", "cross-east", "--seed", 8),
    }
    pixels = {}
    for name, options in others.items():
        options += ("--scale", 1, "--guidance", 2, "--out", tmp_path / f"{name}.png")
        found = sampled(call, "-m", clips, *options)
        assert len(found) == 1 and found[0]["name"] == "cross-east" and len(found[0]["files"]) == 1
        pixels[name] = picture(tmp_path / f"{name}.png")
    second = picture(tmp_path / "sample.png")[17:33]
    assert (second - pixels["alone"]).abs().max() <= 1 and (second - pixels["by number"]).abs().max() <= 1
    assert (second - pixels["other seed"]).abs().max() > 8
    sampled(
        call, "-m", clips, "-n", 3, "--seed", 5, "--scale", 1, "--guidance", 2, "--batch-rows", 2, "--out", tmp_path
    )
    assert (picture(tmp_path / "sample.png")[17:33] - second).abs().max() <= 1


def picture(path: Path) -> torch.Tensor:
    """Pixels [height, width, 3] as whole numbers."""
    with Image.open(path) as opened:
        width, height = opened.size
        return (
            torch.frombuffer(bytearray(opened.convert("RGB").tobytes()), dtype=torch.uint8).view(height, width, 3).int()
        )


def test_clips_are_longer_or_without_a_label(call: Any, clips: str, tmp_path: Path) -> None:
    rows = sampled(call, "-m", clips, "--frames", 20, "--labels", "none, circle-east", "--out", tmp_path / "long.gif")
    assert [(row["name"], row["label"], row["valid"]) for row in rows] == [
        ("none", 32, None),
        ("circle-east", 0, False),
    ]
    assert all(row["frames"] == 20 and row["forwards"] == 10 for row in rows)
    with Image.open(tmp_path / "long.gif") as gif:
        assert gif.n_frames > 1
    assert not (tmp_path / "long.png").exists()


def test_digits_are_images(call: Any, digits: str, tmp_path: Path) -> None:
    rows = sampled(call, "-m", digits, "--out", tmp_path / "d", "--dtype", "bfloat16")
    assert [row["name"] for row in rows] == list("0123456789")
    assert rows[0]["valid"] is None and rows[0]["frames"] == 1 and rows[0]["forwards"] == 8
    assert rows[0]["files"] == [str(tmp_path / "d.png")]
    with Image.open(tmp_path / "d.png") as grid:
        assert grid.size == (8 * (4 * 9 - 1), 8 * (3 * 9 - 1))


def test_progress_is_said_where_there_is_no_terminal(capsys: Any) -> None:
    from interlace.cli.console import bar

    with bar("sampling", 4, every=-1.0) as count:
        count()
        count()
    assert capsys.readouterr().err == "sampling 25%\nsampling 50%\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--model is missing"),
        (("-m", "nowhere"), "nowhere does not exist; pass a folder"),
        (("-m", "TWIN"), "is a model of the system sdar, which generates text; use interlace generate --model"),
        (("-m", "CLIPS", "--labels", "circle-est"), "no label 'circle-est'; did you mean circle-east?"),
        (("-m", "CLIPS", "--labels", "1"), "no label '1'; pass some of circle-east, cross-east, none"),
        (("-m", "DIGITS", "--labels", "none"), "no label 'none'; pass some of 0, 1, 2"),
        (("-m", "DIGITS", "--labels", "3,"), "no label ''; pass some of"),
        (("-m", "DIGITS", "--guidance", "2"), "trained with drop_label 0"),
        (("-m", "DIGITS", "--guidance", "nan"), "guidance is nan; pass a finite number"),
        (("-m", "DIGITS", "--frames", "4"), "makes images, not clips of 4 frames; leave frames out"),
        (("-m", "CLIPS", "--frames", "6"), "6 frames are no whole units"),
        (("-m", "CLIPS", "--frames", "0"), "0 frames are no whole units"),
        (("-m", "CLIPS", "--clips", "0"), "--clips is 0; pass 1 or more"),
        (("-m", "CLIPS", "--batch-rows", "0"), "--batch-rows is 0; pass 1 or more"),
        (("-m", "CLIPS", "--steps", "0"), "steps is 0; pass 1 or more"),
        (("-m", "CLIPS", "--solver", "euler"), "solver is 'euler'; pass ddim or dpm"),
        (("-m", "CLIPS", "--memory", "some"), "unknown memory 'some'; pass exact, block, prefix or none"),
        (("-m", "CLIPS", "--out", "x.jpg"), "--out x.jpg is no picture of clips; name it *.png or *.gif"),
        (("-m", "CLIPS", "--device", "tpu"), "--device tpu cannot be used"),
    ],
)
def test_samples_that_cannot_be(
    options: tuple[str, ...], said: str, fails: Any, clips: str, digits: str, twin: str
) -> None:
    names = {"CLIPS": clips, "DIGITS": digits, "TWIN": twin}
    assert said in fails("sample", *(names.get(option, option) for option in options))


@pytest.mark.parametrize("command", ["generate", "infill", "evaluate", "adapt", "train"])
def test_commands_of_text_refuse_a_model_of_clips(command: str, call: Any, clips: str, tmp_path: Path) -> None:
    options = {
        "generate": ("def", "-m", clips),
        "infill": ("a<FILL:4>b", "-m", clips),
        "evaluate": (clips, "--data", "additions"),
        "adapt": ("-m", clips, "--out", tmp_path / "out"),
        "train": ("-m", clips, "--out", tmp_path / "out"),
    }[command]
    result = call(command, *options)
    assert result.exit_code == 2 and result.stdout == ""
    last = result.stderr.splitlines()[-1]
    if command in ("adapt", "train"):
        assert (
            last == f"error: {clips} does not generate text, as ar does; pass a model of text, or leave the system out"
        )
    else:
        assert f"{clips} is a model of the system acdit, which does not generate text" in last
        assert last.endswith(f"sample from it by interlace sample --model {clips}")


def test_a_damaged_world_is_said(fails: Any, clips: str, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(clips, tmp_path / "copy")
    file = tmp_path / "copy" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data": {"data": "faces"}}))
    assert "config.json: data is {'data': 'faces'}, no world of clips" in fails("sample", "-m", tmp_path / "copy")
