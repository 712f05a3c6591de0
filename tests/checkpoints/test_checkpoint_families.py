"""Every format: what is written reads back, covers every weight, and bears the published names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from interlace.attention.positions import Rope, RopeScaling
from interlace.checkpoints import Checkpoint, expressible, families, inexpressible, load, save, summary
from interlace.errors import CheckpointError
from interlace.nn.config import TransformerConfig
from interlace.nn.transformer import Transformer

from .conftest import EXPERTS, MASKED, NETWORKS, SMALL, checkpoint, network, same_weights, tokenizer


def test_every_family_is_found_and_tried_here() -> None:
    assert set(families()) == set(NETWORKS)


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    before = checkpoint(family, stop_token_ids=(0, 3), bos_token_id=2)
    before.network.to(dtype)
    save(before, tmp_path / "saved")
    after = load(tmp_path / "saved")
    assert after.family == family
    assert after.config == before.config
    assert same_weights(before.network, after.network)
    assert {weight.dtype for weight in after.network.parameters()} == {dtype}
    assert (after.block_size, after.mask_token_id) == (before.block_size, before.mask_token_id)
    assert (after.stop_token_ids, after.bos_token_id, after.pad_token_id) == ((0, 3), 2, None)
    assert (after.network.output.weight is after.network.embed.weight) == (family in ("qwen2", "qwen3"))


@pytest.mark.parametrize("config", [*NETWORKS.values(), TransformerConfig(**SMALL, moe=EXPERTS)])
def test_pieces_fill_every_weight_exactly_once(config: TransformerConfig) -> None:
    for family in families().values():
        filled = {name: torch.zeros_like(weight) for name, weight in Transformer(config).named_parameters()}
        try:
            for piece in family.pieces(config):
                filled[piece.ours][piece.index] += 1
        except (KeyError, AttributeError):  # not a network of that family
            assert family.name != "interlace"
            continue
        if family.name in (*(name for name, of in NETWORKS.items() if of is config), "interlace"):
            assert all((weight == 1).all() for weight in filled.values())


def test_a_new_family_is_one_new_file_and_the_import_is_light(tmp_path: Path) -> None:
    script = """
import sys
import interlace.checkpoints as package
package.__path__.append(sys.argv[1])
assert "tiny" in package.families()
assert "transformers" not in sys.modules
"""
    (tmp_path / "tiny.py").write_text(
        "from interlace.checkpoints.naming import LlamaLike\n"
        "FAMILY = LlamaLike('tiny', dense={'tiny': 'TinyForCausalLM'})\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def test_published_names_of_sdar(tmp_path: Path) -> None:
    save(checkpoint("sdar"), tmp_path / "dense")
    block = ["input_layernorm", "post_attention_layernorm"]
    block += [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")]
    block += [f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")]
    names = {f"model.layers.{layer}.{name}.weight" for layer in range(3) for name in block}
    names |= {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    stored = load_file(tmp_path / "dense" / "model.safetensors")
    assert set(stored) == names
    assert stored["model.layers.0.self_attn.k_proj.weight"].shape == (24, 24)
    config = json.loads((tmp_path / "dense" / "config.json").read_text())
    expected = {
        "model_type": "sdar",
        "architectures": ["SDARForCausalLM"],
        "block_size": 8,
        "mask_token_id": 1,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    assert expected.items() <= config.items()
    assert config["auto_map"] == {"AutoConfig": "configuration_sdar.SDARConfig"}

    save(replace(checkpoint("qwen3_moe"), family="sdar", mask_token_id=1), tmp_path / "moe")
    config = json.loads((tmp_path / "moe" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("sdar_moe", ["SDARMoeForCausalLM"])
    assert config["auto_map"] == {"AutoConfig": "configuration_sdar_moe.SDARMoeConfig"}
    assert config["block_size"] == 4
    assert "model.layers.0.mlp.experts.2.gate_proj.weight" in load_file(tmp_path / "moe" / "model.safetensors")


def test_what_the_tokenizer_of_sdar_says(tmp_path: Path, edit: Callable[..., None]) -> None:
    """Published folders name the mask token (transformers does not know it by its spelling) and two stop tokens."""
    plain = save(checkpoint("qwen3", tokenizer=tokenizer(), stop_token_ids=(3, 0), pad_token_id=0), tmp_path / "plain")
    edit(plain / "tokenizer_config.json", mask_token=None, chat_template="{{ messages }}")
    found = load(plain)
    assert found.mask_token_id == 1  # by its spelling
    sdar = save(replace(found, family="sdar"), tmp_path / "sdar")
    said = json.loads((sdar / "tokenizer_config.json").read_text())
    assert said["mask_token"] == "<|MASK|>" and said["chat_template"] == "{{ messages }}"
    assert json.loads((sdar / "special_tokens_map.json").read_text())["mask_token"] == "<|MASK|>"
    assert json.loads((sdar / "generation_config.json").read_text()) == {"eos_token_id": [3, 0], "pad_token_id": 0}
    ours = save(replace(found, family="interlace", block_size=4), tmp_path / "ours")  # adapted, in no masked format
    assert json.loads((ours / "tokenizer_config.json").read_text())["mask_token"] == "<|MASK|>"
    kept = save(found, tmp_path / "kept")  # no masked model: what the files say on purpose stays
    assert "mask_token" not in json.loads((kept / "tokenizer_config.json").read_text())


def test_transformers_opens_every_masked_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines begin with AutoConfig, and ``transformers`` copies the class into its cache: one of the test's own."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    named = {"tokenizer": tokenizer(), "stop_token_ids": (3, 0), "pad_token_id": 0}
    made = {family: checkpoint(family, **named) for family in MASKED}
    made["sdar_moe"] = replace(checkpoint("qwen3_moe", **named), family="sdar", block_size=8, mask_token_id=1)
    made["yarn"] = replace(checkpoint("qwen3", **named), family="sdar", block_size=16, mask_token_id=1)
    classes = {
        "sdar": ("SDARConfig", "Qwen3Config"),
        "sdar_moe": ("SDARMoeConfig", "Qwen3MoeConfig"),
        "yarn": ("SDARConfig", "Qwen3Config"),
        "fast_dllm_v2": ("Fast_dLLM_QwenConfig", "Qwen2Config"),
        "wedlm": ("WeDLMConfig", "Qwen3Config"),
        "dream": ("DreamConfig", "Qwen2Config"),
        "llada": ("LLaDAConfig", "PretrainedConfig"),
    }
    for name, one in made.items():
        folder, shape = save(one, tmp_path / name), one.config
        written = json.loads((folder / "config.json").read_text())
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
        assert type(config).__name__ == classes[name][0]
        assert isinstance(config, getattr(transformers, classes[name][1]))
        assert (config.hidden_size, config.intermediate_size) == (shape.hidden_size, shape.intermediate_size)
        assert (config.num_hidden_layers, config.num_attention_heads) == (shape.num_layers, shape.num_heads)
        assert (config.num_key_value_heads, config.vocab_size) == (shape.num_kv_heads, shape.vocab_size)
        assert config.max_position_embeddings == shape.max_positions
        assert (config.rope_theta, config.rms_norm_eps) == (shape.rope.bases[0], shape.norm_eps)
        for field in ("model_type", "architectures", "mask_token_id", "block_size", "bd_size", "head_dim", "qk_norm"):
            assert getattr(config, field, None) == written.get(field)
        if name == "yarn":
            assert written["rope_scaling"].items() <= config.rope_scaling.items()
        again = type(config).from_dict(config.to_dict())
        assert (again.rope_theta, again.mask_token_id) == (config.rope_theta, config.mask_token_id)
        opened = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        assert (opened.mask_token_id, opened.eos_token_id, opened.pad_token_id) == (config.mask_token_id, 3, 0)
        generation = transformers.GenerationConfig.from_pretrained(folder)
        assert (generation.eos_token_id, generation.pad_token_id) == ([3, 0], 0)


def test_the_class_of_a_config_is_never_read_and_goes_with_its_format(tmp_path: Path) -> None:
    folder = save(checkpoint("sdar"), tmp_path / "saved")
    (folder / "configuration_sdar.py").write_text("raise SystemExit")
    (folder / "modeling_sdar.py").write_text("raise SystemExit")
    again = load(folder)
    save(again, folder)
    assert "class SDARConfig(Qwen3Config)" in (folder / "configuration_sdar.py").read_text()
    save(replace(again, family="qwen3"), folder)
    assert [file.name for file in folder.glob("*.py")] == ["modeling_sdar.py"]  # not ours
    assert "auto_map" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("size", "mask", "said"),
    [
        (4, 151669, []),
        (8, 151669, ["blocks of 8 (SGLang: 4)"]),
        (4, 1, ["mask token 1 (SGLang, LMDeploy: 151669)"]),
        (8, 1, ["blocks of 8 (SGLang: 4) and mask token 1 (SGLang, LMDeploy: 151669)"]),
    ],
)
def test_what_engines_do_not_read_is_said(size: int, mask: int, said: list[str]) -> None:
    lines = families()["sdar"].remarks(checkpoint("sdar", block_size=size, mask_token_id=mask))
    assert [line.split(": versions")[0] for line in lines] == said


def test_published_names_of_fast_dllm_v2(tmp_path: Path, edit: Callable[..., None]) -> None:
    folder = save(checkpoint("fast_dllm_v2"), tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    expected = {
        "model_type": "Fast_dLLM_Qwen",
        "architectures": ["Fast_dLLM_QwenForCausalLM"],
        "bd_size": 8,
        "layer_types": ["full_attention"] * 3,
        "tie_word_embeddings": False,
    }
    assert expected.items() <= config.items() and "block_size" not in config
    assert config["auto_map"] == {"AutoConfig": "configuration.Fast_dLLM_QwenConfig"}
    stored = load_file(folder / "model.safetensors")
    attention = {name.split("self_attn.")[1] for name in stored if "layers.1.self_attn" in name}
    assert attention == {f"{x}_proj.{kind}" for x in "qkv" for kind in ("weight", "bias")} | {"o_proj.weight"}
    edit(folder / "config.json", bd_size=None)
    assert load(folder).block_size == 32


@pytest.mark.parametrize("shape", [{"qk_norm": True}, {"qk_norm": False, "qkv_bias": True}], ids=["qwen3", "qwen2"])
def test_published_names_of_wedlm(shape: dict[str, Any], tmp_path: Path) -> None:
    made = Checkpoint(network(TransformerConfig(**SMALL, **shape)), family="wedlm", mask_token_id=1)
    folder = save(made, tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    expected = {
        "model_type": "wedlm",
        "architectures": ["WeDLMForCausalLM"],
        "qk_norm": shape["qk_norm"],
        "attention_bias": shape.get("qkv_bias", False),
        "layer_types": ["full_attention"] * 3,
    }
    assert expected.items() <= config.items() and "block_size" not in config
    assert config["auto_map"] == {"AutoConfig": "configuration_wedlm.WeDLMConfig"}
    names = {name.split("self_attn.")[1] for name in load_file(folder / "model.safetensors") if "layers.1.self" in name}
    assert ("q_norm.weight" in names) == shape["qk_norm"] and ("q_proj.bias" in names) != shape["qk_norm"]
    assert same_weights(load(folder).network, made.network)


def test_what_the_config_of_wedlm_leaves_out(tmp_path: Path, edit: Callable[..., None]) -> None:
    """Its class takes Qwen2.5's biases and hidden_size / heads, and says neither a mask token nor a block size."""
    shape = {**SMALL, "head_dim": SMALL["hidden_size"] // SMALL["num_heads"]}
    config = TransformerConfig(**shape, qkv_bias=True, qk_norm=False)
    made = Checkpoint(network(config), family="wedlm", mask_token_id=1)
    folder = save(made, tmp_path / "saved")
    edit(folder / "config.json", **dict.fromkeys(("attention_bias", "qk_norm", "head_dim")))
    assert same_weights(load(folder).network, made.network)


def test_published_names_of_llada(tmp_path: Path, edit: Callable[..., None]) -> None:
    made = checkpoint("llada")
    folder = save(made, tmp_path / "saved")
    stored = load_file(folder / "model.safetensors")
    block = ("attn_norm", "q_proj", "k_proj", "v_proj", "attn_out", "ff_norm", "ff_proj", "up_proj", "ff_out")
    names = {f"model.transformer.blocks.{layer}.{name}.weight" for layer in range(3) for name in block}
    assert set(stored) == names | {f"model.transformer.{name}.weight" for name in ("wte", "ln_f", "ff_out")}
    gate, up = made.network.blocks[1].mlp.up.weight.chunk(2)
    assert torch.equal(stored["model.transformer.blocks.1.ff_proj.weight"], gate)
    assert torch.equal(stored["model.transformer.blocks.1.up_proj.weight"], up)
    config = json.loads((folder / "config.json").read_text())
    expected = {
        "model_type": "llada",
        "d_model": 24,
        "n_heads": 4,
        "n_kv_heads": 2,
        "mlp_hidden_size": 20,
        "n_layers": 3,
    }
    assert expected.items() <= config.items() and config["architectures"] == ["LLaDAModelLM"]
    for name, value, said in (
        ("block_type", "sequential", "block_type 'sequential' is not supported; only 'llama' is"),
        ("multi_query_attention", True, "multi_query_attention is not supported; use n_kv_heads"),
        ("n_heads", 5, "5 heads of 24 channels are impossible"),
    ):
        before = config.get(name)
        edit(folder / "config.json", **{name: value})
        with pytest.raises(CheckpointError, match=said):
            load(folder)
        edit(folder / "config.json", **{name: before})
    assert same_weights(load(folder).network, made.network)
    edit(folder / "config.json", d_model=None, hidden_size=24, num_experts=64, num_experts_per_tok=8)
    with pytest.raises(CheckpointError, match="LLaDA with experts is not supported; only the dense LLaDA is"):
        load(folder)


def test_a_mask_that_no_file_names(tmp_path: Path, edit: Callable[..., None]) -> None:
    """Fast-dLLM v2 hard-codes it: 151665, a row that Qwen2.5 leaves free."""
    wide = TransformerConfig(**{**SMALL, "vocab_size": 151_670, "hidden_size": 4}, qk_norm=False, qkv_bias=True)
    folder = save(Checkpoint(Transformer(wide), family="fast_dllm_v2", mask_token_id=5), tmp_path / "saved")
    assert load(folder).mask_token_id == 5
    edit(folder / "config.json", mask_token_id=None)
    assert load(folder).mask_token_id == 151_665
    narrow = save(checkpoint("fast_dllm_v2"), tmp_path / "narrow")
    edit(narrow / "config.json", mask_token_id=None)
    with pytest.raises(CheckpointError, match="mask_token_id is 151665 but vocab_size is 40"):
        load(narrow)


def test_what_a_format_can_express() -> None:
    made = checkpoint("qwen3")
    assert expressible(made, "sdar") and expressible(made, "interlace")
    assert not expressible(made, "fast_dllm_v2") and not expressible(made, "qwen2")
    assert expressible(checkpoint("qwen3_moe"), "sdar")
    differ = inexpressible(checkpoint("qwen2"), "sdar")
    assert differ == ["out_bias=False (it would be True)", "qk_norm=False (it would be True)"]
    assert inexpressible(made, "sdar") == []


@pytest.mark.parametrize(("name", "size"), [("SDAR-4B-Chat", 4), ("SDAR-4B-Chat-b16", 16), ("x-b8-hf", 8), ("-b8x", 4)])
def test_sdar_folders_that_say_little(name: str, size: int, tmp_path: Path, edit: Callable[..., None]) -> None:
    folder = save(checkpoint("sdar", tokenizer=tokenizer()), tmp_path / name)
    edit(folder / "config.json", block_size=None, mask_token_id=None)
    found = load(folder)
    assert (found.block_size, found.mask_token_id) == (size, 1)
    edit(folder / "tokenizer_config.json", mask_token={"content": "<|endoftext|>"})
    assert load(folder).mask_token_id == 0
    for file in folder.glob("*token*"):
        file.unlink()
    (folder / "added_tokens.json").write_text('{"<MASK>": 7}')
    assert load(folder).mask_token_id == 7
    edit(folder / "config.json", block_size=32, mask_token_id=5)
    assert (load(folder).block_size, load(folder).mask_token_id) == (32, 5)


def test_hub_cache_gives_the_repository_name(tmp_path: Path, edit: Callable[..., None]) -> None:
    folder = tmp_path / "models--JetLM--SDAR-8B-Chat-b64" / "snapshots" / "0a1b"
    save(checkpoint("sdar"), folder)
    edit(folder / "config.json", block_size=None)
    assert load(folder).block_size == 64


def test_fields_that_are_not_ours_are_kept(tmp_path: Path, edit: Callable[..., None]) -> None:
    folder = save(checkpoint("qwen3", stop_token_ids=(5, 6)), tmp_path / "one")
    edit(folder / "config.json", initializer_range=0.02, attention_dropout=0.5, eos_token_id=6)
    edit(folder / "generation_config.json", temperature=0.6, top_k=20)
    again = save(load(folder), tmp_path / "two")
    for file in ("config.json", "generation_config.json"):
        assert json.loads((again / file).read_text()) == json.loads((folder / file).read_text())
    changed = save(replace(load(folder), stop_token_ids=(7,)), tmp_path / "three")
    assert json.loads((changed / "config.json").read_text())["eos_token_id"] == 7
    assert json.loads((changed / "generation_config.json").read_text())["eos_token_id"] == 7


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("llama", {"qk_norm": True}, "qk_norm"),
        ("llama", {"out_bias": True}, "out_bias"),
        ("qwen2", {"qkv_bias": False, "qk_norm": False}, "qkv_bias"),
        ("qwen3", {"mlp_bias": True}, "mlp_bias"),
        ("qwen3", {"moe": EXPERTS}, "moe"),
        ("qwen3", {"rope": Rope((10.0, 20.0), split=(1, 2))}, "rope"),
        ("qwen3", {"gated_mlp": False}, "gated_mlp"),
        ("qwen3_moe", {}, "moe"),
        ("sdar", {"levels": True}, "levels"),
    ],
)
def test_a_format_refuses_what_it_cannot_express(
    family: str, change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    config = TransformerConfig(**{**SMALL, "qk_norm": family != "llama", **change})
    if family == "qwen3_moe":
        config = replace(config, moe=None, qk_norm=False)
        named = "qk_norm"
    made = Checkpoint(network(config), family=family, mask_token_id=1)
    with pytest.raises(CheckpointError, match=named):
        save(made, tmp_path / "refused")
    assert list(tmp_path.iterdir()) == []
    save(replace(made, family="interlace"), tmp_path / "own")
    assert same_weights(load(tmp_path / "own").network, made.network)


def test_unscaled_rope_by_any_name_is_the_same(tmp_path: Path) -> None:
    made = checkpoint("qwen2")
    made.network.config = replace(made.config, rope=Rope(scaling=RopeScaling("default")))
    save(made, tmp_path / "saved")
    assert load(tmp_path / "saved").config.rope == Rope()


def test_summary(tmp_path: Path) -> None:
    made = checkpoint("sdar", tokenizer=tokenizer())
    found = summary(save(made, tmp_path / "saved", dtype="bf16", shard_bytes=4000))
    assert (found.family, found.model_type, found.dtype, found.block_size) == ("sdar", "sdar", "bfloat16", 8)
    assert found.config == made.config
    assert found.parameters == sum(weight.numel() for weight in made.network.parameters())
    assert found.files > 1
    assert found.bytes > 2 * found.parameters
    assert found.tokenizer
    assert "sdar" in str(found)
    assert f"{found.parameters:,} parameters, bfloat16" in str(found)
    assert "of 3 experts" in str(summary(save(checkpoint("qwen3_moe"), tmp_path / "moe")))
    assert "5 features" in str(summary(save(checkpoint("interlace"), tmp_path / "own")))
