"""Whatever is wrong with a folder: one line that names the cause and the remedy."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from interlace.checkpoints import load, save, summary
from interlace.errors import CheckpointError

from .conftest import checkpoint, tokenizer

Edit = Callable[..., None]


def refused(path: Path | str, *parts: str, values: bool = False, **options: Any) -> str:
    """The message of ``load``; ``summary`` gives the same, unless it is about values."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message, "cause; remedy"
    for part in parts:
        assert part in message
    if not values:
        with pytest.raises(CheckpointError) as again:
            summary(path)
        assert str(again.value) == message
    return message


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_the_folder_is_sound_before_it_is_damaged(folder: Path) -> None:
    assert load(folder).tokenizer is not None


# --- the folder ---


def test_path_does_not_exist(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "does not exist", "pass a folder, or a Hugging Face name")


def test_path_is_a_file(folder: Path) -> None:
    refused(folder / "config.json", "is a file")


def test_a_hub_name_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refused("no-such-owner/no-such-model", "could not be fetched", "check the name and the connection")


def test_a_hub_name_fetches_no_code_and_no_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    folder = save(checkpoint("sdar"), tmp_path / "snapshots" / "0a1b")
    config = json.loads((folder / "config.json").read_text())
    del config["block_size"]
    (folder / "config.json").write_text(json.dumps(config))
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load("JetLM/SDAR-4B-Chat-b16").block_size == 16  # from the name
    assert asked["name"] == "JetLM/SDAR-4B-Chat-b16"
    assert "*.safetensors" in asked["allow_patterns"]
    assert not any("py" in pattern or "bin" in pattern for pattern in asked["allow_patterns"])


# --- config.json ---


def test_config_missing(folder: Path) -> None:
    (folder / "config.json").unlink()
    refused(folder, "config.json is missing")


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_config_not_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(folder, "config.json", "download it again")


def test_unknown_model_type(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", model_type="mamba")
    refused(folder, "unknown model_type 'mamba'", "known are", "llama, qwen2, qwen3, qwen3_moe, sdar, sdar_moe")
    edit(folder / "config.json", model_type=None)
    refused(folder, "no field 'model_type'")


NORM = "model.layers.0.post_feedforward_layernorm.weight"


def test_the_nearest_family_and_what_differs(folder: Path, edit: Edit) -> None:
    """The folder is a Qwen3's: by another name, with fields and tensors of its own, without some, and out of reach."""
    edit(folder / "config.json", model_type="qwen9")
    refused(folder, "its weights and fields are those of qwen3: if it is one", "set model_type to 'qwen3'")
    edit(folder / "config.json", attention_multiplier=0.5, logit_scale=None)
    message = refused(folder, "the nearest is qwen3, but its config.json has attention_multiplier, of which that knows")
    assert "logit_scale" not in message and "set model_type" not in message
    rewrite(folder, lambda state: state.update({NORM: torch.zeros(3)}))
    rewrite(folder, lambda state: [state.pop(f"model.layers.{n}.input_layernorm.weight") for n in (0, 1, 2)])  # type: ignore[arg-type,return-value]
    refused(
        folder, "the nearest is qwen3, but it lacks model.layers.*.input_layernorm.weight, it holds "
        "model.layers.*.post_feedforward_layernorm.weight, its config.json has attention_multiplier",
    )  # fmt: skip
    rewrite(folder, lambda state: [state.pop(name) for name in list(state) if "q_norm" in name or "k_norm" in name])  # type: ignore[arg-type,return-value]
    refused(folder, "the nearest is llama, but it lacks")
    edit(folder / "config.json", hidden_act="gelu")
    refused(folder, "sdar_moe, wedlm; it is no llama (hidden_act 'gelu' is not supported)")
    edit(folder / "config.json", hidden_act="silu", num_hidden_layers=10**9)
    refused(folder, "it is no llama")


def test_a_family_that_is_like_none(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", model_type="mamba")
    rewrite(folder, lambda state: [state.update({f"backbone.{n}": state.pop(n)}) for n in list(state)])  # type: ignore[arg-type,return-value]
    refused(folder, "its weights are like none of these")
    (folder / "model.safetensors").unlink()
    assert refused(folder, "unknown model_type 'mamba'; known are").endswith("sdar_moe, wedlm")


def test_a_known_network_that_is_not_read(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", model_type="diffusion_gemma")
    refused(folder, "DiffusionGemma's own weights", "interlace adapt --system diffusion-gemma")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"hidden_size": None}, ("no field 'hidden_size'",)),
        ({"hidden_size": "24"}, ("'hidden_size' is '24' and should be a whole number",)),
        ({"num_hidden_layers": True}, ("'num_hidden_layers' is True",)),
        ({"num_attention_heads": 0}, ("3 layers of 0 heads",)),
        ({"num_key_value_heads": 3}, ("4 heads cannot share 3",)),
        ({"head_dim": 11}, ("11 channels",)),
        ({"hidden_act": "gelu"}, ("'gelu'", "only 'silu'")),
        ({"eos_token_id": "</s>"}, ("eos_token_id '</s>' is not a token id",)),
        ({"eos_token_id": [1, 10**20]}, ("100000000000000000000] is not a token id",)),
        ({"quantization_config": {"quant_method": "fp8"}}, ("quantised",)),
        ({"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, ("sliding window of 16",)),
        ({"sliding_window": 16, "layer_types": ["full_attention", "sliding_attention"]}, ("sliding window of 16",)),
        ({"rope_scaling": {"rope_type": "dynamic"}}, ("'dynamic' has no 'factor'",)),
        (
            {"rope_scaling": {"type": "longrope", "factor": 2.0}},
            ("'longrope'", "default, linear, dynamic, llama3, yarn"),
        ),
        ({"rope_scaling": {"rope_type": "linear"}}, ("'linear' has no 'factor'",)),
        ({"rope_scaling": {"rope_type": "linear", "factor": "x"}}, ("'factor' is 'x'",)),
        ({"rope_scaling": None, "rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, ("per kind of layer",)),
        ({"partial_rotary_factor": 0.5}, ("partial_rotary_factor 0.5",)),
    ],
)
def test_config_that_cannot_be(folder: Path, edit: Edit, change: dict[str, Any], parts: tuple[str, ...]) -> None:
    edit(folder / "config.json", **change)
    refused(folder, "config.json", *parts)


@pytest.mark.parametrize(
    "harmless",
    [
        {"use_sliding_window": False, "sliding_window": 16, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 3},
        {"use_sliding_window": True, "sliding_window": None},
        {"use_sliding_window": True, "sliding_window": 16, "layer_types": ["full_attention"] * 3},
    ],
)
def test_windows_that_are_not_used(folder: Path, edit: Edit, harmless: dict[str, Any]) -> None:
    edit(folder / "config.json", **harmless)
    load(folder)


@pytest.mark.parametrize(
    "change", [{"num_experts_per_tok": 4}, {"moe_intermediate_size": 0}, {"decoder_sparse_step": 0}]
)
def test_impossible_experts(tmp_path: Path, edit: Edit, change: dict[str, Any]) -> None:
    folder = save(checkpoint("qwen3_moe"), tmp_path / "moe")
    edit(folder / "config.json", **change)
    refused(folder, "is impossible", "correct num_experts_per_tok")


def test_head_dim_and_its_defaults(tmp_path: Path, edit: Edit) -> None:
    folder = save(checkpoint("qwen2"), tmp_path / "two")
    edit(folder / "config.json", head_dim=None)
    refused(folder, "self_attn.q_proj.weight is [48, 24] but should be [24, 24]")
    folder = save(checkpoint("qwen3"), tmp_path / "three")
    edit(folder / "config.json", head_dim=None)
    refused(folder, "q_proj.weight is [48, 24] but should be [512, 24]")


ODD = [None, True, -1, 0, 1.5, 10**9, 10**30, -1e300, "x", [1, "x"], {"a": {}}]


@pytest.mark.parametrize(
    ("family", "within"), [("qwen3_moe", None), ("llama", "rope_scaling"), ("qwen3", "rope_scaling"),
                           ("interlace", "transformer")],
)  # fmt: skip
def test_no_odd_value_gives_anything_but_a_checkpoint_error(family: str, within: str | None, tmp_path: Path) -> None:
    folder = save(checkpoint(family, stop_token_ids=(1,)), tmp_path / "saved")
    sound = json.loads((folder / "config.json").read_text())
    accepted = set()
    for name in sound if within is None else sound[within]:
        for value in ODD:
            config = json.loads(json.dumps(sound))
            (config if within is None else config[within])[name] = value
            (folder / "config.json").write_text(json.dumps(config))
            try:
                summary(folder)
                accepted.add((name, repr(value)))
            except CheckpointError as error:
                assert "\n" not in str(error)
                assert ";" in str(error)
    for impossible in ("-1", "0", "1e+300", "'x'", "{'a': {}}"):
        sizes = {"hidden_size", "head_dim", "vocab_size", "num_heads", "factor", "num_experts", "rms_norm_eps"}
        assert not accepted & {(size, impossible) for size in sizes} - {("vocab_size", "0"), ("rms_norm_eps", "0")}


def test_our_own_format_of_another_version(tmp_path: Path) -> None:
    folder = save(checkpoint("interlace"), tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    config["transformer"]["flux"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "flux", "another version")


# --- weights ---


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(folder, "model.safetensors is damaged or cut short", "download")


def test_header_of_rubbish(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)
    refused(folder, "model.safetensors is damaged")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return save(checkpoint("qwen3"), tmp_path / "shards", shard_bytes=8000)


def test_shard_missing(shards: Path) -> None:
    lost = min(shards.glob("model-00002-*"))
    lost.unlink()
    refused(shards, lost.name, "is missing")


def test_shard_truncated(shards: Path) -> None:
    cut = min(shards.glob("model-00002-*"))
    cut.write_bytes(cut.read_bytes()[:-8])
    refused(shards, cut.name, "damaged")


def test_index_names_a_tensor_that_is_not_there(shards: Path) -> None:
    index = shards / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"]["model.layers.9.ghost"] = min(shards.glob("model-00001-*")).name
    index.write_text(json.dumps(values))
    refused(shards, "model.layers.9.ghost", "lacks it")


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {"a": 1}}', '{"weight_map": ["a"]}', "no"])
def test_index_damaged(shards: Path, text: str) -> None:
    (shards / "model.safetensors.index.json").write_text(text)
    refused(shards, "model.safetensors.index.json", "download it again")


def test_index_that_leaves_the_folder(shards: Path) -> None:
    (shards / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../sound.safetensors"}}')
    refused(shards, "points outside its folder")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


def test_pickled_weights_are_never_opened(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    load(folder)
    (folder / "model.safetensors").unlink()
    refused(folder, "pickled weights only (pytorch_model.bin)", "convert them to safetensors")
    (folder / "pytorch_model.bin").unlink()
    refused(folder, "no model.safetensors and no model.safetensors.index.json")


def test_code_in_the_folder_is_never_run(tmp_path: Path) -> None:
    folder = save(checkpoint("sdar"), tmp_path / "sdar")
    for name in ("configuration_sdar.py", "modeling_sdar.py"):
        (folder / name).write_text("raise SystemExit('code of the checkpoint was run')")
    assert load(folder).family == "sdar"


def test_config_contradicts_a_weight(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", intermediate_size=21)
    refused(folder, "mlp.gate_proj.weight is [20, 24] but should be [21, 24] by config.json")


def test_missing_weights(folder: Path, edit: Edit) -> None:
    rewrite(folder, lambda state: [state.pop(name) for name in list(state) if "k_norm" in name])  # type: ignore[arg-type,return-value]
    message = refused(folder, "the weights lack", "correct config.json")
    assert "model.layers.0.self_attn.k_norm.weight, model.layers.1.self_attn.k_norm.weight" in message


def test_a_layer_too_many_in_the_config(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", num_hidden_layers=4)
    refused(folder, "lack model.layers.3.input_layernorm.weight", "and 8 more", "number of layers")


def test_unexpected_weights(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", num_hidden_layers=2)
    refused(folder, "hold model.layers.2.", "unknown to a qwen3")
    edit(folder / "config.json", num_hidden_layers=3)
    rewrite(folder, lambda state: state.update({"value_head.weight": torch.zeros(3)}))
    refused(folder, "value_head.weight")


def test_harmless_weights_are_ignored(folder: Path) -> None:
    rewrite(folder, lambda state: state.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(3)}))
    load(folder)


def test_tied_and_stored_twice(folder: Path) -> None:
    rewrite(folder, lambda state: state.update({"lm_head.weight": state["model.embed_tokens.weight"].clone()}))
    assert load(folder).config.tied
    rewrite(folder, lambda state: state.update({"lm_head.weight": state["model.embed_tokens.weight"] + 1}))
    refused(folder, "lm_head.weight is model.embed_tokens.weight", "set tie_word_embeddings to false", values=True)


def test_untied_without_a_head(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", tie_word_embeddings=False)
    refused(folder, "lack lm_head.weight", "tie_word_embeddings")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_no_numbers(folder: Path, value: float, dtype: torch.dtype) -> None:
    save(checkpoint("qwen3"), folder, dtype=dtype)
    rewrite(folder, lambda state: state["model.layers.1.mlp.up_proj.weight"][3].fill_(value))  # type: ignore[arg-type,return-value]
    refused(folder, "tensor model.layers.1.mlp.up_proj.weight holds NaN or Inf", "check_finite=False", values=True)
    assert load(folder, check_finite=False).network.config.num_layers == 3
    summary(folder)


def test_values_beyond_the_dtype(folder: Path) -> None:
    rewrite(folder, lambda state: state["model.norm.weight"].fill_(1e6))  # type: ignore[arg-type,return-value]
    refused(folder, "model.norm.weight does not fit into torch.float16", "bfloat16", values=True, dtype="fp16")
    load(folder, dtype="bf16")


def test_quantised_weights(folder: Path) -> None:
    rewrite(folder, lambda state: state.update({"model.norm.weight": torch.zeros(24, dtype=torch.int8)}))
    refused(folder, "'model.norm.weight' is stored as I8", "quantised")


def test_unknown_dtype(folder: Path) -> None:
    for dtype in ("int8", "float8_e4m3fn", "nonsense", torch.int32):
        with pytest.raises(CheckpointError, match="unknown dtype"):
            load(folder, dtype=dtype)


def test_the_dtype_of_most_values_wins(folder: Path) -> None:
    def mix(state: dict[str, torch.Tensor]) -> None:
        state.update({name: weight.bfloat16() for name, weight in state.items() if "norm" not in name})

    rewrite(folder, mix)
    assert {weight.dtype for weight in load(folder).network.parameters()} == {torch.bfloat16}
    assert summary(folder).dtype == "bfloat16"
    assert {weight.dtype for weight in load(folder, "float64").network.parameters()} == {torch.float64}


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_json_nested_too_deeply(folder: Path, name: str) -> None:
    (folder / name).write_text("[" * 100_000)
    refused(folder, f"{name} is not JSON", "download it again")


# --- the tokenizer ---


@pytest.mark.parametrize("text", [b"", b"{", b'{"version": "1.0"}', b"\xff\xfe"])
def test_tokenizer_damaged(folder: Path, text: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(text)
    refused(folder, "tokenizer.json is damaged", "download it again")


def test_tokenizer_config_damaged(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{")
    refused(folder, "tokenizer_config.json is not JSON")


def test_tokenizer_missing(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert load(folder).tokenizer is None


def test_tokenizer_larger_than_the_vocabulary(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text(tokenizer(41).to_str())
    refused(folder, "the tokenizer has ids up to 40 but vocab_size is 40")
    with pytest.raises(CheckpointError, match="ids up to 40 but vocab_size is 40"):
        save(checkpoint("qwen3", tokenizer=tokenizer(41)), tmp_path / "new")
    (folder / "tokenizer.json").write_text(tokenizer(40).to_str())
    load(folder)


def test_no_mask_token(tmp_path: Path, edit: Edit) -> None:
    folder = save(checkpoint("sdar"), tmp_path / "sdar")
    edit(folder / "config.json", mask_token_id=35)
    assert load(folder).mask_token_id == 35
    (folder / "tokenizer.json").write_text(tokenizer(35).to_str())
    refused(folder, "the tokenizer has no token 35, which is the mask_token_id")
    edit(folder / "config.json", mask_token_id=40)
    refused(folder, "mask_token_id is 40 but vocab_size is 40")
    (folder / "tokenizer.json").unlink()
    edit(folder / "config.json", mask_token_id=None)
    refused(folder, "needs a mask token and names none", "add mask_token_id")
    with pytest.raises(CheckpointError, match="needs a mask token"):
        save(checkpoint("sdar", mask_token_id=None), tmp_path / "new")


def test_a_mask_that_is_another_token(tmp_path: Path, edit: Edit) -> None:
    """Ordinary tokens are in texts; a stop token would end them."""
    sound = checkpoint("sdar", tokenizer=tokenizer(), stop_token_ids=(0,))
    folder = save(sound, tmp_path / "sdar")
    edit(folder / "config.json", mask_token_id=7)
    refused(folder, "mask_token_id is 7, which is the ordinary token 'f' that texts contain; correct it to the id of")
    edit(folder / "config.json", mask_token_id=0)
    refused(folder, "mask_token_id is 0, which is an eos_token_id too, so every mask would end the text")
    for mask, said in ((7, "the ordinary token 'f'"), (0, "an eos_token_id"), (32, "no token 32"), (40, "is 40 but")):
        with pytest.raises(CheckpointError, match=said):
            save(replace(sound, mask_token_id=mask), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    edit(folder / "config.json", mask_token_id=1)
    assert load(folder).mask_token_id == 1
