"""Clips from end to end: learnt, saved, opened, sampled with and without memory, written; and the one-copy loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import interlace
from interlace.attention.patterns import TwoCopy
from interlace.checkpoints import Checkpoint
from interlace.clips import (
    ClipData,
    ClipShape,
    clips_of,
    sample_clips,
    to_clips,
    to_tokens,
    train_clips,
    write_gif,
    write_grid,
)
from interlace.errors import CheckpointError, DataError, SettingError
from interlace.grid import Noise
from interlace.layouts import Blocks, Frames, Squares
from interlace.model import Model
from interlace.nn import Transformer, TransformerConfig
from interlace.processes import AbsorbingMask, FlowMatching, Gaussian
from interlace.systems import find
from interlace.training.batch import Batch, TensorRows
from interlace.training.objectives import OneCopyLoss, TwoCopyLoss
from interlace.training.settings import TrainSettings
from interlace.training.told_clean import ToldClean

TINY = ClipShape(hidden_size=32, num_layers=2, num_heads=2)
EASY = ClipData(samples=6, shapes=("circle",), motions=("east", "south"), colours=("red",), speeds=(1.0, 1.0))


def scattered(network: Transformer, seed: int = 0) -> Transformer:
    """Weights with nothing left at zero, so that levels and labels count."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.15)
    return network.eval()


def settings(out: Path, steps: int = 2) -> TrainSettings:
    return TrainSettings(
        out=out, steps=steps, batch_rows=2, evaluate_every=steps, evaluate_rows=2, warmup=1, learning_rate=0.01, ema=0.5
    )


def untrained(**changes: object) -> Model:
    """An ACDiT of two frames a unit over 2 x 2 tokens of 12 numbers."""
    system = find("acdit")
    chosen = system.settings.but(frames=4, height=2, width=2, frames_per_unit=2, patch=2, steps=3, **changes)
    layout = system.parts(chosen).layout
    config = TINY.config(layout, (4, 2, 2), 12, 5)
    network = scattered(Transformer(config).initialise(torch.Generator().manual_seed(0)))
    return Model(Checkpoint(network), system, chosen)


def rows_of(layout: Frames, count: int, features: int = 12) -> Batch:
    content = torch.randn(count, layout.length, features, generator=torch.Generator().manual_seed(5))
    return TensorRows(content, torch.arange(count) % 5).batch(range(count))


# --- learn, keep, open, sample ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options", "shape", "units"),
    [
        (EASY, {"patch": 8, "frames_per_unit": 4, "steps": 2, "predicts": "clean"}, (16, 16, 16, 3), 4),
        (ClipData(data="digits"), {"steps": 2}, (1, 8, 8, 1), 4),  # squares
        (ClipData(data="digits"), {"steps": 2, "frames_per_unit": 1, "patch": 4}, (1, 8, 8, 1), 1),  # one whole frame
    ],
)
def test_a_model_of_clips_is_trained_saved_opened_and_sampled(
    tmp_path: Path, data: ClipData, options: dict[str, object], shape: tuple[int, ...], units: int
) -> None:
    model = train_clips(settings(tmp_path), data, TINY, **options)
    opened = interlace.load(tmp_path)
    assert opened.system.name == "acdit" and opened.settings == model.settings
    layout = opened.parts.layout
    assert layout.units(layout.length) == units  # type: ignore[attr-defined]
    clips = sample_clips(opened, [0, 1, 1], seed=3)
    assert clips.shape == (3, *shape) and bool(clips.isfinite().all())
    assert torch.equal(clips, sample_clips(model, [0, 1, 1], seed=3))  # the saved weights are those that were returned
    alone = sample_clips(opened, [1], seed=5)
    torch.testing.assert_close(alone[0], clips[2], atol=1e-5, rtol=1e-5)
    metrics = [json.loads(line) for line in (tmp_path / "training" / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2 and metrics[-1]["held_out_loss"] > 0
    torch.testing.assert_close(sample_clips(opened, [0, 1, 1], seed=3, at_once=2), clips, atol=1e-5, rtol=1e-5)


def test_settings_can_be_changed_when_a_model_is_opened(tmp_path: Path) -> None:
    train_clips(settings(tmp_path), EASY, TINY, patch=8)
    assert interlace.load(tmp_path, steps=2, solver="ddim").settings.steps == 2  # type: ignore[attr-defined]
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"settings": {"frames": "many"}}))
    with pytest.raises(CheckpointError, match=r"config\.json: frames is 'many'; .*correct the file"):
        interlace.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"system": "unheard-of"}))
    with pytest.raises(CheckpointError, match="unknown system 'unheard-of'"):
        interlace.load(tmp_path)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="sdar generates text"):
        train_clips(settings(tmp_path), EASY, TINY, system="sdar")
    with pytest.raises(SettingError, match="patch 5 does not divide the 16 pixels"):
        train_clips(settings(tmp_path), EASY, TINY, patch=5)
    with pytest.raises(SettingError, match="8 frames cannot be cut into units of 3"):
        train_clips(settings(tmp_path), EASY, TINY, frames=8, frames_per_unit=3)
    with pytest.raises(SettingError, match="learnt by its noise"):
        train_clips(settings(tmp_path), EASY, TINY, noise="gaussian", predicts="clean")
    with pytest.raises(SettingError, match="single images"):
        train_clips(settings(tmp_path), EASY, TINY, side=2)


def test_held_out_clips_are_none_of_those_trained_on() -> None:
    train, _ = clips_of(EASY)
    held, labels = clips_of(EASY, "heldout", 3)
    assert not (train[:, None] == held[None]).flatten(2).all(-1).any()
    assert set(labels.tolist()) <= set(EASY.world().labels)


# --- sampling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["ddim", "dpm"])
@pytest.mark.parametrize("noise", ["flow", "gaussian"])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_clips_are_the_same_with_and_without_memory(solver: str, noise: str, guidance: float) -> None:
    model = untrained(solver=solver, noise=noise)
    kept, recomputed = (
        sample_clips(model, [0, 3], guidance=guidance, seed=1, memory=memory) for memory in ("exact", "none")
    )
    torch.testing.assert_close(kept, recomputed, atol=1e-4 * float(recomputed.abs().max()), rtol=0)
    other = sample_clips(model, [1, 3], guidance=guidance, seed=1)
    assert not torch.allclose(other[0], kept[0]) and torch.allclose(other[1], kept[1], atol=1e-4)


def test_clips_go_on_beyond_the_trained_length_and_behind_a_beginning() -> None:
    model = untrained()
    long = sample_clips(model, [2], frames=8, seed=4)
    short = sample_clips(model, [2], seed=4)
    assert long.shape == (1, 8, 4, 4, 3)
    torch.testing.assert_close(long[:, :4], short, atol=1e-5, rtol=1e-5)
    begun = sample_clips(model, [2], frames=8, seed=4, beginning=short[:, :2])
    torch.testing.assert_close(begun, long, atol=1e-5, rtol=1e-5)
    with pytest.raises(SettingError, match="no whole units"):
        sample_clips(model, [2], frames=7)
    with pytest.raises(SettingError, match="no labels"):
        sample_clips(model, [])


def test_tokens_and_clips_are_two_forms_of_the_same() -> None:
    clips = torch.randn(2, 1, 8, 8, 1, generator=torch.Generator().manual_seed(0)) * 0.5 - 0.75
    settings = find("acdit").settings.but(mean=-0.75, deviation=0.5)
    for layout in (Frames(1, 4, 4, 1, patch=2), Squares(4, 4, side=2, patch=2)):
        tokens = to_tokens(layout, clips, settings)
        assert abs(float(tokens.mean())) < 0.2 and 0.8 < float(tokens.std()) < 1.2
        torch.testing.assert_close(to_clips(layout, tokens, settings), clips)
    with pytest.raises(SettingError, match="single images"):
        to_tokens(Squares(4, 4, side=2, patch=2), clips.expand(2, 3, 8, 8, 1), settings)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_clips_are_written_as_gif_and_as_grid(tmp_path: Path) -> None:
    clips = torch.full((2, 3, 4, 4, 3), -1.0)
    clips[1, 2, 0, 0] = torch.tensor([1.0, -1.0, 5.0])  # out of range is cut
    with Image.open(write_grid(tmp_path / "new" / "clips.png", clips, scale=2)) as grid:
        assert grid.size == (2 * (3 * 5 - 1), 2 * (2 * 5 - 1))
        assert grid.getpixel((2 * 10, 2 * 5)) == (255, 0, 255) and grid.getpixel((0, 0)) == (0, 0, 0)
        assert grid.getpixel((2 * 4, 0)) == (64, 64, 64)  # between the tiles
    with Image.open(write_gif(tmp_path / "clips.gif", clips, scale=1, frames_per_second=5)) as gif:
        assert gif.n_frames >= 2 and gif.size == (9, 4)  # equal frames may be joined
        gif.seek(gif.n_frames - 1)
        assert gif.convert("RGB").getpixel((5, 0)) == (255, 0, 255)
    with Image.open(write_grid(tmp_path / "digits.png", torch.zeros(5, 1, 8, 8, 1), scale=1)) as grid:
        assert grid.size == (3 * 9 - 1, 2 * 9 - 1)  # images in a square, the last place empty
        assert grid.getpixel((0, 0)) == (128, 128, 128) and grid.getpixel((18, 9)) == (0, 0, 0)


def test_pictures_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="pass \\[n, frames"):
        write_grid(tmp_path / "x.png", torch.zeros(2, 8, 8, 3))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_gif(tmp_path / "file" / "x.gif", torch.zeros(1, 2, 4, 4, 1))


# --- the one-copy loss -----------------------------------------------------------------------------------------------


def test_one_copy_loss_is_the_plain_computation() -> None:
    """Two units, every token told the level of its unit, the second unit seeing the first as noisy as it is."""
    layout, process = Frames(4, 2, 2, 2), FlowMatching()
    network = untrained().network
    batch = rows_of(layout, 3)
    loss = OneCopyLoss(process, layout)(network, batch, seed=7, step=11)
    assert batch.label is not None
    noise = Noise((7,))
    total = torch.zeros(())
    for row in range(3):
        clean = batch.content[row]
        drawn = noise.normal([0], [4 * row], [11], tuple(clean.shape))[0]
        t = noise.uniform([0], [4 * row + 1], [11], (16,))[0][:2].repeat_interleave(8)[:, None]
        noisy = (1 - t) * clean + t * drawn
        seen = torch.arange(16)[:, None] // 8 >= torch.arange(16)[None] // 8
        positions = layout.positions(torch.arange(16))[None]
        hidden = network(
            noisy[None], positions, seen[None, None], level=t[None, :, 0], label=batch.label[row].expand(1, 16)
        )
        total = total + ((network.head(hidden)[0] - (drawn - clean)) ** 2).mean(-1).sum()
    torch.testing.assert_close(loss.total, total, atol=1e-3, rtol=1e-5)
    assert int(loss.count) == 48


@pytest.mark.parametrize("process", [FlowMatching(), FlowMatching(predicts="clean"), Gaussian()])
def test_of_a_single_unit_one_copy_learns_the_same_as_two(process: FlowMatching) -> None:
    layout = Frames(4, 2, 2, 4)
    losses, gradients = [], []
    for objective in (
        OneCopyLoss(process, layout, drop_label=0.5),
        TwoCopyLoss(process, layout, TwoCopy(), "unit", 0.5),
    ):
        network = untrained().network
        loss = objective(network, rows_of(layout, 4), seed=1, step=2)
        loss.total.backward()
        losses.append(loss.total)
        gradients.append([p.grad if p.grad is not None else torch.zeros_like(p) for p in network.parameters()])
    torch.testing.assert_close(*losses)
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)


def test_one_copy_loss_of_text_leaves_padding_out() -> None:
    process = AbsorbingMask(mask_id=15)
    config = TransformerConfig(vocab_size=16, hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=8)
    network = scattered(Transformer(config).initialise(torch.Generator().manual_seed(0)))
    content = torch.arange(24).view(2, 12) % 15
    document = torch.tensor([[0] * 8 + [-1] * 4, [0] * 4 + [1] * 8])
    index = torch.cat([torch.arange(8), torch.arange(4), torch.arange(4), torch.arange(8)]).view(2, 12)

    def loss_of(text: Tensor) -> Tensor:
        objective = OneCopyLoss(process, Blocks(4), levels="document")
        return objective(network, Batch(text, document, index, [0, 1]), 3, 4).total

    padded = content.clone()
    padded[0, 8:] = 1
    assert float(loss_of(content).detach()) > 0
    torch.testing.assert_close(loss_of(content), loss_of(padded))


def test_a_network_told_of_clean_tokens_never_takes_the_clean_path() -> None:
    model = untrained()
    layout = model.parts.layout
    content = rows_of(layout, 1).content  # type: ignore[arg-type]
    positions = layout.positions(torch.arange(16))[None]
    zero, label = torch.zeros(1, 16), torch.full((1, 16), 2)
    told = ToldClean(model.network)
    clean, other = (
        model.network(content, positions, level=zero, label=label),
        told(content, positions, level=zero, label=label),
    )
    assert not torch.allclose(clean, other)
    nearly = model.network(content, positions, level=zero + 1e-6, label=label)
    torch.testing.assert_close(other, nearly)
    assert torch.equal(told.head(other), model.network.head(other))
