"""Saving is all or nothing, and what is saved opens in `transformers`, tokenizer included."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tokenizers import AddedToken, Tokenizer, pre_tokenizers

from interlace.checkpoints import Checkpoint, load, save, tokens
from interlace.errors import CheckpointError
from interlace.nn import TransformerConfig

from .conftest import SMALL, checkpoint, network, same_weights, tokenizer


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_shards(tmp_path: Path) -> None:
    before = checkpoint("qwen3_moe")
    folder = save(before, tmp_path / "new" / "saved", shard_bytes=4000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(file.name for file in folder.glob("*.safetensors"))
    assert len(shards) > 3
    assert shards[-1] == f"model-{len(shards):05d}-of-{len(shards):05d}.safetensors"
    assert index["metadata"]["total_size"] == 4 * sum(weight.numel() for weight in before.network.parameters())
    for name, file in index["weight_map"].items():
        with safe_open(folder / file, framework="pt") as tensors:
            assert name in tensors.keys()  # noqa: SIM118 (not a mapping)
            assert tensors.metadata() == {"format": "pt"}
    big = {"model.embed_tokens.weight", "lm_head.weight"}
    assert all((folder / s).stat().st_size < 4000 + 2000 for s in shards if index["weight_map"].get(s) not in big)
    assert same_weights(load(folder).network, before.network)


def test_one_file_replaces_shards_and_the_reverse(tmp_path: Path) -> None:
    one, other = checkpoint("qwen3", seed=1), checkpoint("qwen3", seed=2)
    folder = save(one, tmp_path / "saved", shard_bytes=4000)
    save(other, folder)
    assert [file.name for file in folder.glob("*.safetensors*")] == ["model.safetensors"]
    assert same_weights(load(folder).network, other.network)
    save(one, folder, shard_bytes=4000)
    assert not (folder / "model.safetensors").exists()
    assert same_weights(load(folder).network, one.network)


def test_other_files_of_a_folder_stay(tmp_path: Path) -> None:
    folder = save(checkpoint("qwen3", seed=1), tmp_path / "saved")
    (folder / "log.txt").write_text("step 1")
    (folder / "states").mkdir()
    (folder / "states" / "optimizer").write_text("m, v")
    save(checkpoint("qwen3", seed=2), folder)
    assert (folder / "log.txt").read_text() == "step 1"
    assert (folder / "states" / "optimizer").read_text() == "m, v"
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    save(checkpoint("qwen3", seed=1), tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    save(checkpoint("qwen3", seed=2), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert same_weights(load(tmp_path / "real").network, checkpoint("qwen3", seed=2).network)


@pytest.mark.parametrize("existing", [True, False])
def test_a_disk_that_runs_full_at_any_moment(existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = checkpoint("qwen3", seed=1), checkpoint("qwen3", seed=2, tokenizer=tokenizer())
    target = tmp_path / "saved"
    if existing:
        save(old, target, shard_bytes=4000)
    before = contents(target) if existing else None
    real, calls, failures = os.fsync, 0, 0

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failures:
            raise full()
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for failures in range(1, 100):  # noqa: B007 (read by fsync)
        calls = 0
        try:
            save(new, target, shard_bytes=12_000)
        except CheckpointError as error:
            assert "full" in str(error)
            assert "free some space" in str(error)
            assert (contents(target) if existing else None) == before
            assert [entry.name for entry in tmp_path.iterdir()] == (["saved"] if existing else [])
        else:
            break
    assert failures > 8
    assert same_weights(load(target).network, new.network)
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("broken", [OSError(errno.EACCES, "denied"), full(), KeyboardInterrupt()])
def test_a_swap_that_fails_is_undone(broken: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(checkpoint("qwen3", seed=1), tmp_path / "saved")
    before, real = contents(folder), os.rename

    def rename(source: Any, target: Any) -> None:
        if str(source).endswith(".partial"):
            raise broken
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(CheckpointError if isinstance(broken, OSError) else KeyboardInterrupt):
        save(checkpoint("qwen3", seed=2), folder)
    assert contents(folder) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


def test_too_little_space_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(save(checkpoint("qwen3", seed=1), tmp_path / "saved"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=40_000))
    with pytest.raises(CheckpointError, match=r"full \(0.06 MB are needed and 0.04 MB are free\)"):
        save(checkpoint("qwen3", seed=2), tmp_path / "saved")
    assert contents(tmp_path / "saved") == before
    save(checkpoint("qwen3", seed=2), tmp_path / "saved", dtype="bfloat16")  # half of it fits


def test_a_target_that_is_no_checkpoint(tmp_path: Path) -> None:
    made = checkpoint("qwen3")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="is a file; pass the path of a folder"):
        save(made, tmp_path / "file")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds other things \(thesis.tex\)"):
        save(made, tmp_path / "home")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(made, tmp_path / "file" / "below")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "home"]
    (tmp_path / "empty").mkdir()
    save(made, tmp_path / "empty")


def test_what_an_interrupted_swap_left_is_named(tmp_path: Path) -> None:
    folder = save(checkpoint("qwen3"), tmp_path / "saved")
    folder.rename(tmp_path / ".saved.0123abcd.old")
    with pytest.raises(CheckpointError, match=r"interrupted save left .*\.saved\.0123abcd\.old; rename it back"):
        load(folder)


def test_nan_is_not_saved_over_a_good_checkpoint(tmp_path: Path) -> None:
    folder = save(checkpoint("qwen3", seed=1), tmp_path / "saved")
    before, broken = contents(folder), checkpoint("qwen3", seed=2)
    with torch.no_grad():
        broken.network.blocks[1].mlp.down.weight[3, 3] = float("nan")  # type: ignore[union-attr,operator]
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.down_proj\.weight holds NaN or Inf; nothing was saved"):
        save(broken, folder)
    assert contents(folder) == before
    save(broken, folder, check_finite=False)
    large = checkpoint("qwen3", seed=2)
    with torch.no_grad():
        large.network.norm.weight[0] = 1e5
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight does not fit into torch\.float16"):
        save(large, folder, dtype="float16")


def test_unknown_family(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="unknown family 'gpt9'; known are dream, fast_dllm_v2, interlace, llada"):
        save(replace(checkpoint("qwen3"), family="gpt9"), tmp_path / "saved")


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        folder = save(checkpoint("qwen3"), tmp_path / "saved")
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644


# --- the tokenizer ---


def test_tokenizer_files_are_kept_byte_for_byte(tmp_path: Path, edit: Callable[..., None]) -> None:
    folder = save(checkpoint("qwen3", tokenizer=tokenizer(), stop_token_ids=(0,)), tmp_path / "one")
    published = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(published, indent=7))
    edit(folder / "tokenizer_config.json", chat_template="{{ messages }}", bos_token=None, odd=[1, 2])
    (folder / "chat_template.jinja").write_bytes(b"{{ messages }}\r\n")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    loaded = load(folder)
    assert loaded.tokenizer is not None
    loaded.tokenizer.enable_padding(length=64)  # a way of using it, not a change of it
    again = save(loaded, tmp_path / "two")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "merges.txt"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def published_as_dream(folder: Path) -> Any:
    """vocab.json and merges.txt, tokens added behind them, a class of its own; and Qwen2's tokenizer of the first."""
    transformers = pytest.importorskip("transformers")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("d", "e"), ("de", "f"), ("\u0120", "x"), ("1", "2"), ("i", "n"), ("in", "t")]
    vocab = {word: number for number, word in enumerate([*letters, *("".join(pair) for pair in merges)])}
    added = {"<|endoftext|>": len(vocab), "<tool>": len(vocab) + 1, "<|mask|>": len(vocab) + 2}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    (folder / "added_tokens.json").write_text(json.dumps(added))
    decoder = {str(n): {"content": text, "special": text != "<tool>", "normalized": False} for text, n in added.items()}
    config = {
        "tokenizer_class": "DreamTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "mask_token": "<|mask|>", "eos_token": "<|endoftext|>", "added_tokens_decoder": decoder,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": "<|mask|>"}))
    return transformers.Qwen2Tokenizer(vocab=vocab, merges=merges)


def test_a_tokenizer_of_vocabulary_and_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dream is published without tokenizer.json; what is saved has one, and asks for no code."""
    plain = published_as_dream(tmp_path / "published")
    config = TransformerConfig(**SMALL | {"vocab_size": 300}, qkv_bias=True, qk_norm=False)
    made = Checkpoint(network(config), family="dream", mask_token_id=264)
    written = save(made, tmp_path / "made")
    for file in written.iterdir():
        if "token" not in file.name:
            (tmp_path / "published" / file.name).write_bytes(file.read_bytes())
    loaded = load(tmp_path / "published")
    assert loaded.tokenizer is not None and loaded.mask_token_id == 264
    for text in ("def f(x):\n    return 12", "  \n\n x'S 12e\u0301\u00e9 \u4e2d\r\n", "int int\tin"):
        assert loaded.tokenizer.encode(text).ids == plain(text)["input_ids"]
        assert loaded.tokenizer.decode(loaded.tokenizer.encode(text).ids) == plain.decode(plain(text)["input_ids"])
    assert loaded.tokenizer.encode("x<|mask|><tool>x").ids[1:3] == [264, 263]
    special = {number: token.special for number, token in loaded.tokenizer.get_added_tokens_decoder().items()}
    assert special == {262: True, 263: False, 264: True}

    again = save(loaded, tmp_path / "again")
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    opened = transformers.AutoTokenizer.from_pretrained(again)
    assert opened("def f<|mask|>")["input_ids"] == loaded.tokenizer.encode("def f<|mask|>").ids
    assert (opened.mask_token_id, opened.eos_token_id) == (264, 262)
    assert not (again / "vocab.json").exists()
    kept = load(again)
    assert kept.tokenizer is not None and kept.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()


def test_a_tokenizer_in_parts_that_do_not_fit(tmp_path: Path) -> None:
    published_as_dream(tmp_path / "one")
    files = tokens.read_files(tmp_path / "one")
    assert tokens.parse(files | {"tokenizer_config.json": b'{"tokenizer_class": "GPT2Tokenizer"}'}, tmp_path) is None
    assert tokens.parse({name: raw for name, raw in files.items() if name != "merges.txt"}, tmp_path) is None
    bare = files | {"tokenizer_config.json": b'{"tokenizer_class": "DreamTokenizer"}'}
    moved = bare | {"added_tokens.json": b'{"<|endoftext|>": 262, "<|mask|>": 270}'}
    with pytest.raises(CheckpointError, match=r"'<\|mask\|>' is said to be token 270, behind vocab.json it is 263"):
        tokens.parse(moved, tmp_path)
    with pytest.raises(CheckpointError, match=r"vocab.json and merges.txt do not fit .*; download them again"):
        tokens.parse(bare | {"merges.txt": b"q zz\n"}, tmp_path)


def test_a_changed_tokenizer_is_written_anew(tmp_path: Path, edit: Callable[..., None]) -> None:
    folder = save(checkpoint("qwen3", tokenizer=tokenizer(31), stop_token_ids=(0,)), tmp_path / "one")
    edit(folder / "tokenizer_config.json", chat_template="{{ messages }}", added_tokens_decoder={}, mask_token=None)
    (folder / "added_tokens.json").write_text("{}")
    loaded = load(folder)
    assert loaded.tokenizer is not None
    loaded.tokenizer.add_special_tokens([AddedToken("<|hole|>", special=True)])
    number = loaded.tokenizer.token_to_id("<|hole|>")
    adapted = replace(loaded, family="sdar", mask_token_id=number, block_size=4)
    again = load(save(adapted, tmp_path / "two"))
    config = json.loads((tmp_path / "two" / "tokenizer_config.json").read_text())
    assert config["mask_token"] == "<|hole|>"
    assert config["chat_template"] == "{{ messages }}"
    assert config["added_tokens_decoder"][str(number)]["special"] is True
    assert not (tmp_path / "two" / "added_tokens.json").exists()
    assert again.tokenizer is not None
    assert again.tokenizer.encode("a <|hole|> b").ids == [2, number, 3]
    edit(tmp_path / "two" / "config.json", mask_token_id=None)
    assert load(tmp_path / "two").mask_token_id == number


def test_transformers_opens_the_whole_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    made = checkpoint("qwen3", tokenizer=tokenizer(), stop_token_ids=(0, 5), pad_token_id=0, mask_token_id=1)
    folder = save(made, tmp_path / "one", dtype="bfloat16", shard_bytes=8000)
    again = save(load(folder), tmp_path / "two")
    for path in (folder, again):
        opened = transformers.AutoTokenizer.from_pretrained(path)
        assert opened("a b <|MASK|> d")["input_ids"] == [2, 3, 1, 5]
        assert opened.decode([2, 1]) == made.tokenizer.decode([2, 1], skip_special_tokens=False)  # type: ignore[union-attr]
        assert (opened.eos_token_id, opened.pad_token_id, opened.mask_token_id) == (0, 0, 1)
        assert opened.model_max_length == 64
        model = transformers.AutoModelForCausalLM.from_pretrained(path)
        assert model.dtype == torch.bfloat16
        assert model.generation_config.eos_token_id == [0, 5]
        assert model.config.pad_token_id == 0


def test_a_real_byte_level_tokenizer(tmp_path: Path) -> None:
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(["the cat sat on the mat, the cat did"] * 3, trainer)
    one = checkpoint("qwen3", stop_token_ids=(0,))
    from interlace.nn.transformer import Transformer

    one.network = Transformer(replace(one.config, vocab_size=320))
    one.network.initialise(torch.Generator().manual_seed(0))
    one.tokenizer = made
    folder = save(one, tmp_path / "one")
    text = "the cat naïve 🙂\n  x"
    loaded = load(folder).tokenizer
    assert loaded is not None
    assert loaded.encode(text).ids == made.encode(text).ids
    transformers = pytest.importorskip("transformers")
    opened = transformers.AutoTokenizer.from_pretrained(folder)
    assert opened(text)["input_ids"] == made.encode(text).ids
    assert opened.decode(made.encode(text).ids) == text
