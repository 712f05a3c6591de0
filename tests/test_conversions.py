"""From one published format to another: the same network, under other names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.checkpoints import Checkpoint, load, save, summary
from interlace.conversions import _another, convert, mapping
from interlace.errors import CheckpointError, SettingError
from interlace.model import load as open_model
from interlace.model import system_of
from interlace.nn import Transformer, TransformerConfig
from interlace.worlds.tokenizer import END_ID, IM_END_ID, MASK_ID, train_tokenizer

SHAPE: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8,
    "max_positions": 64,
}  # fmt: skip


def folder(path: Path, family: str = "qwen3", spare: int = 4, **shape: Any) -> Path:
    """A checkpoint whose tokenizer leaves rows of the embedding free."""
    tokenizer = train_tokenizer(["def area(width, height):\n    return width * height\n"], 270)
    config = TransformerConfig(vocab_size=tokenizer.get_vocab_size() + spare, **SHAPE | shape)
    network = Transformer(config).initialise(torch.Generator().manual_seed(0))
    return save(Checkpoint(network, tokenizer, family, stop_token_ids=(END_ID,)), path)


def same(one: Path, other: Path) -> bool:
    pairs = zip(load(one).network.named_parameters(), load(other).network.named_parameters(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize(
    ("family", "shape", "ways"),
    [
        ("qwen3", {}, ["sdar", "wedlm", "interlace", "qwen3"]),
        ("qwen2", {"qk_norm": False, "qkv_bias": True}, ["fast_dllm_v2", "wedlm", "interlace", "qwen2"]),
    ],
)
def test_there_and_back(family: str, shape: dict[str, Any], ways: list[str], tmp_path: Path) -> None:
    start = here = folder(tmp_path / "start", family, **shape)
    for number, to in enumerate(ways):
        there = tmp_path / f"{number}-{to}"
        convert(here, there, to, block_size=8)
        assert summary(there).family == to and summary(there).block_size == 8 and same(start, there)
        here = there
    assert load(here).stop_token_ids == (END_ID,)


def test_a_masked_model_stays_what_it_is(tmp_path: Path) -> None:
    """Formats that another system has, or none, name it in config.json; its own format need not."""
    sdar = tmp_path / "sdar"
    convert(folder(tmp_path / "start"), sdar, "sdar", block_size=4)
    for number, to in enumerate(("interlace", "wedlm", "sdar")):
        there = tmp_path / f"{number}"
        convert(sdar, there, to)
        named = json.loads((there / "config.json").read_text()).get("system")
        assert open_model(there).system.name == "sdar" and named == (None if to == "sdar" else "sdar")
        sdar = there


def test_how_a_model_decodes_is_named(tmp_path: Path) -> None:
    """config.json says what the format does not; the weights stay."""
    sdar = tmp_path / "sdar"
    convert(folder(tmp_path / "start"), sdar, "sdar", block_size=4)
    convert(sdar, tmp_path / "faster", "sdar", changes={"threshold": "0.7", "reveal": "leading"})
    faster = open_model(tmp_path / "faster")
    assert (faster.system.name, faster.settings.threshold, faster.settings.reveal) == ("sdar", 0.7, "leading")
    convert(tmp_path / "faster", tmp_path / "other", "sdar", system="efficient-dlm", changes={"half_life": 0.5})
    other = open_model(tmp_path / "other")
    assert (other.system.name, other.settings.threshold, other.settings.half_life) == ("efficient-dlm", 0.9, 0.5)
    assert other.settings.block_size == 4 and same(sdar, tmp_path / "other")
    convert(tmp_path / "other", tmp_path / "back", "sdar", system="sdar")
    assert "system" not in json.loads((tmp_path / "back" / "config.json").read_text())
    named = convert(folder(tmp_path / "ar"), tmp_path / "young", "sdar", system="efficient-dlm", block_size=4)
    assert named.extra["config"]["system"] == "efficient-dlm"
    with pytest.raises(SettingError, match="sdar needs a mask token, and nothing names one"):
        _another(system_of(load(tmp_path / "ar")), "sdar", replace(load(tmp_path / "ar"), mask_token_id=None))
    for system, why in (
        ("wedlm", "who sees whom differs"),
        ("diffusion-gemma", "who sees whom differs"),
        ("ar", "who sees whom differs"),
        ("fast-dllm-v2", "where a token is predicted differs"),
        ("acdit", "not both systems of text"),
        ("nothing", "unknown system"),
    ):
        with pytest.raises(SettingError, match=why):
            convert(sdar, tmp_path / "never", "sdar", system=system)
    with pytest.raises(SettingError, match="threshold"):
        convert(sdar, tmp_path / "never", "sdar", changes={"threshold": -1})
    with pytest.raises(SettingError, match="mask_id is no setting of decoding"):
        convert(sdar, tmp_path / "never", "sdar", changes={"mask_id": 5})
    assert not (tmp_path / "never").exists()


def test_a_mask_token_is_kept_found_or_made(tmp_path: Path) -> None:
    start = folder(tmp_path / "start")
    made = convert(start, tmp_path / "found", "sdar")
    assert made.mask_token_id == MASK_ID  # the tokenizer has one
    assert convert(tmp_path / "found", tmp_path / "kept", "wedlm").mask_token_id == MASK_ID
    assert convert(start, tmp_path / "given", "sdar", mask_token_id=IM_END_ID).mask_token_id == IM_END_ID
    with pytest.raises(CheckpointError, match=f"mask_token_id is {END_ID}, which is an eos_token_id too"):
        convert(start, tmp_path / "stop", "sdar", mask_token_id=END_ID)


def test_a_new_mask_token_is_no_token_that_there_is(tmp_path: Path) -> None:
    """An ordinary token may be spelled like a mask, and ids may have holes that a new one does not fill."""
    from tokenizers import Tokenizer, models

    start = folder(tmp_path / "start")
    for other in ("tokenizer_config.json", "special_tokens_map.json"):
        (start / other).unlink()

    def words(**ids: int) -> None:
        ids = {name.replace("mask", "<|MASK|>"): number for name, number in ids.items()}
        (start / "tokenizer.json").write_text(Tokenizer(models.WordLevel(ids, unk_token="a")).to_str())

    words(mask=0, a=1, b=2)
    made = convert(start, tmp_path / "made", "sdar")
    assert made.mask_token_id == 3 and made.tokenizer is not None
    assert made.tokenizer.id_to_token(3) == "<MASK>" and made.tokenizer.token_to_id("<|MASK|>") == 0
    assert load(tmp_path / "made").mask_token_id == 3
    words(mask=0, a=1, b=3)
    with pytest.raises(SettingError, match="a new token of this tokenizer gets the id 3, which is taken"):
        convert(start, tmp_path / "holes", "sdar")
    words(**{f"w{number}": number for number in range(1, load(start).config.vocab_size)}, a=0)
    with pytest.raises(SettingError, match=r"the tokenizer uses all \d+ rows of the embedding; add one"):
        convert(start, tmp_path / "full", "sdar")


def test_the_mapping_names_every_tensor_once(tmp_path: Path) -> None:
    found = summary(folder(tmp_path / "start"))
    rows = mapping(found, "sdar")
    assert len({name for row in rows for name in row.source}) == sum(len(row.source) for row in rows) == 24
    joined = next(row for row in rows if row.ours == "blocks.1.attention.qkv.weight")
    assert joined.source == tuple(f"model.layers.1.self_attn.{x}_proj.weight" for x in "qkv") == joined.target
    assert joined.shape == (32, 16)
    assert mapping(found, "interlace")[0].target == ("embed.weight",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "mamba"}, "unknown format 'mamba'; known: dream, fast_dllm_v2, interlace"),
        (
            {"to": "qwen2"},
            r"qwen2 cannot express .*qkv_bias=False .*, qk_norm=True .*; formats that can: interlace, qwen3, ",
        ),
        ({"to": "sdar", "mask_token_id": 900}, "mask_token_id is 900, the vocabulary has 2"),
        ({"to": "sdar", "mask_token_id": 70}, "70 is the ordinary token"),
        ({"to": "sdar", "mask_token_id": 271}, "the tokenizer has no token 271"),
        ({"to": "sdar", "block_size": 0}, "block_size is 0; pass 1 or more"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    start = folder(tmp_path / "start")
    with pytest.raises(SettingError, match=said):
        convert(start, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_without_a_tokenizer(tmp_path: Path) -> None:
    start = folder(tmp_path / "start")
    for file in start.glob("*token*"):
        file.unlink()
    with pytest.raises(SettingError, match=r"sdar needs a mask token, and .* has no tokenizer to name one"):
        convert(start, tmp_path / "out", "sdar")
    assert replace(convert(start, tmp_path / "out", "sdar", mask_token_id=5)).mask_token_id == 5


@pytest.fixture
def call() -> Callable[..., Any]:
    from typer.testing import CliRunner

    from interlace.cli import app

    return lambda *given: CliRunner().invoke(app, [str(a) for a in given], prog_name="interlace")


def test_the_command(call: Callable[..., Any], tmp_path: Path) -> None:
    start = folder(tmp_path / "start")
    dry = call("convert", start, "--to", "interlace", "--dry-run")
    assert dry.exit_code == 0 and "model.layers.*.mlp.down_proj.weight" in dry.stdout and "2 times" in dry.stdout
    for wrong in (("--system", "nobody"), ("--set", "reveal=never"), ("--block-size", 0)):
        refused = [
            call("convert", start, "--to", "sdar", *wrong, *way) for way in (("--dry-run",), ("--out", tmp_path / "x"))
        ]
        assert refused[0].exit_code == 2 and refused[0].stderr == refused[1].stderr and not (tmp_path / "x").exists()
    done = call("convert", start, "--to", "sdar", "--out", tmp_path / "out", "--block-size", 4, "--json")
    found = json.loads(done.stdout)
    assert (found["from"], found["to"], found["out"]) == ("qwen3", "sdar", str(tmp_path / "out"))
    assert load(tmp_path / "out").block_size == 4 and len(found["mapping"]) > 10
    faster = ("--set", "threshold=0.5", "--set", "reveal=leading")
    done = call("convert", tmp_path / "out", "--to", "sdar", "--out", tmp_path / "faster", *faster)
    assert done.exit_code == 0, done.output
    assert open_model(tmp_path / "faster").settings.threshold == 0.5
    nowhere = call("convert", start, "--to", "sdar")
    assert nowhere.exit_code == 2 and "pass --out DIR, or --dry-run" in nowhere.stderr


def test_the_block_size_of_trained_weights_stays(tmp_path: Path) -> None:
    """Renamed weights know no more than before; a system of full attention has none to keep."""
    start = folder(tmp_path / "start")
    convert(start, tmp_path / "four", "sdar", block_size=4)
    with pytest.raises(SettingError, match="block_size is 8, but the model was adapted for 4, and its weights stay"):
        convert(tmp_path / "four", tmp_path / "eight", "sdar", block_size=8)
    assert convert(tmp_path / "four", tmp_path / "same", "interlace", block_size=4).block_size == 4
    llama = folder(tmp_path / "llama", "llama", qk_norm=False)
    convert(llama, tmp_path / "llada", "llada", block_size=4)
    assert convert(tmp_path / "llada", tmp_path / "free", "llada", block_size=8).block_size == 8
