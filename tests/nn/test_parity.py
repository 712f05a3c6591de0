"""The network computes what `transformers` computes, from the same files, for every family and its options."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from interlace.attention.kernels import make_mask
from interlace.attention.patterns import Causal, Tags
from interlace.attention.positions import RopeScaling
from interlace.checkpoints import Checkpoint, load, save
from interlace.checkpoints.fields import Fields
from interlace.checkpoints.naming import read_rope, write_rope
from interlace.errors import SettingError
from interlace.nn.transformer import Transformer

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

CONFIGS = {
    "llama": transformers.LlamaConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "qwen3_moe": transformers.Qwen3MoeConfig,
}
SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "beta_fast": 4.0,
        "beta_slow": 1.0,
        "attention_factor": 1.3,
        "truncate": False,
    },
    {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "mscale": 0.7,
        "mscale_all_dim": 1.2,
    },
]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


VOCABULARY, LENGTH, OFFSET = 61, 24, 50  # positions go beyond the original context of every scaling


def draw(family: str, seed: int) -> Any:
    """A small random config; the seed walks through the options, the sizes are drawn."""
    rng = random.Random(f"{family} {seed}")
    kv = rng.choice((1, 2))
    heads = kv * rng.choice((1, 2, 3))
    options: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": rng.choice((24, 40, 56)),
        "num_hidden_layers": rng.choice((1, 2, 3)),
        "max_position_embeddings": 128,
        "rms_norm_eps": rng.choice((1e-6, 1e-5, 1e-3)),
        "tie_word_embeddings": seed % 2 == 0,
        "rope_parameters": {"rope_theta": rng.choice((100.0, 10000.0)), **SCALINGS[seed % len(SCALINGS)]},
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if family == "qwen2":
        options["hidden_size"] = heads * rng.choice((16, 24))
    else:
        options["head_dim"] = rng.choice((16, 24, 32))
        options["hidden_size"] = heads * rng.choice((8, 16, 20))
        options["attention_bias"] = seed % 3 == 1
    if family == "llama":
        options["mlp_bias"] = seed % 3 != 2
    if family == "qwen3_moe":
        experts = rng.choice((2, 4, 7))
        options["num_hidden_layers"] = 3
        options |= {"num_experts": experts, "num_experts_per_tok": rng.randint(1, experts - 1)}
        options |= {"moe_intermediate_size": rng.choice((8, 24)), "norm_topk_prob": seed % 2 == 1}
        options |= [{}, {"mlp_only_layers": [1]}, {"decoder_sparse_step": 2}][seed % 3]
    return CONFIGS[family](**options)


def fill(model: Any, seed: int) -> Any:
    """Every weight at random, norms and biases too, so that no two of them can be confused."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0, 0.3 if weight.dim() > 1 else 0.2, generator=generator)
            if "norm" in name:
                weight += 1
    return model.eval()


def ids(rows: int, seed: int, length: int = LENGTH) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def ours(network: Transformer, content: Tensor, positions: Tensor, lengths: Tensor | None = None) -> Tensor:
    index = torch.arange(content.shape[1]).expand_as(content)
    document = torch.zeros_like(index) if lengths is None else torch.where(index < lengths[:, None], 0, -1)
    mask = make_mask(Causal(), Tags(index, index, document, torch.zeros_like(index)), kernel="dense")
    assert isinstance(mask, Tensor)
    return network.head(network(content, positions, mask))


@torch.no_grad()
def theirs(model: Any, content: Tensor, positions: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    return model(input_ids=content, position_ids=positions, attention_mask=attention_mask, use_cache=False).logits


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    scale = b.float().abs().max().item()
    assert scale > 0.5, "logits near zero would agree by chance"
    torch.testing.assert_close(a.float(), b.float(), rtol=0, atol=tolerance * scale)


class Pair(NamedTuple):
    model: Any
    folder: Path
    checkpoint: Checkpoint
    seed: int


CASES = [(family, seed) for family in CONFIGS for seed in range(6)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    family, seed = request.param
    model = fill(transformers.AutoModelForCausalLM.from_config(draw(family, seed)), seed)
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return Pair(model, folder, load(folder), seed)


def test_the_cases_cover_the_options() -> None:
    drawn = [draw(family, seed).to_dict() for family, seed in CASES]
    for option in ("tie_word_embeddings", "attention_bias", "mlp_bias", "norm_topk_prob"):
        assert {config[option] for config in drawn if option in config} == {True, False}
    assert any(config["num_attention_heads"] > config["num_key_value_heads"] > 1 for config in drawn)
    assert any(config.get("head_dim") not in (None, config["hidden_size"] // config["num_attention_heads"])
               for config in drawn)  # fmt: skip
    for family in CONFIGS:
        assert len({str(draw(family, seed).rope_parameters) for seed in range(6)}) == 6


def test_logits_equal(pair: Pair) -> None:
    content = ids(2, pair.seed)
    positions = torch.arange(OFFSET, OFFSET + LENGTH).expand_as(content)
    close(ours(pair.checkpoint.network, content, positions), theirs(pair.model, content, positions))


def test_logits_equal_for_rows_of_different_lengths(pair: Pair) -> None:
    content = ids(3, pair.seed + 100)
    positions = torch.arange(LENGTH).expand_as(content)
    lengths = torch.tensor([LENGTH, 5, 13])
    real = positions < lengths[:, None]
    together = ours(pair.checkpoint.network, content, positions, lengths)
    close(together[real], theirs(pair.model, content, positions, real.long())[real])
    for row, length in enumerate(lengths.tolist()):
        alone = ours(pair.checkpoint.network, content[row : row + 1, :length], positions[:1, :length])
        close(together[row, :length], alone[0])


def test_one_token_needs_no_mask(pair: Pair) -> None:
    content, positions = ids(2, pair.seed, 1), torch.full((2, 1), 77)
    with torch.no_grad():
        logits = pair.checkpoint.network.head(pair.checkpoint.network(content, positions))
    close(logits, theirs(pair.model, content, positions))


def test_what_is_saved_opens_in_transformers_bit_for_bit(pair: Pair, tmp_path: Path) -> None:
    save(pair.checkpoint, tmp_path / "ours", shard_bytes=20_000)
    published, written = load_file(pair.folder / "model.safetensors"), {}
    for shard in (tmp_path / "ours").glob("*.safetensors"):
        written |= load_file(shard)
    assert written.keys() == published.keys()
    for name, weight in published.items():
        assert weight.dtype == written[name].dtype
        assert torch.equal(weight, written[name]), name
    model, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(model) is type(pair.model)
    content = ids(2, pair.seed)
    positions = torch.arange(OFFSET, OFFSET + LENGTH).expand_as(content)
    assert torch.equal(theirs(model.eval(), content, positions), theirs(pair.model, content, positions))


def test_stored_in_bfloat16(pair: Pair, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        pair.folder, dtype=torch.bfloat16, experts_implementation="eager"
    ).eval()
    model.save_pretrained(tmp_path)
    kept = load(tmp_path)
    assert {weight.dtype for weight in kept.network.parameters()} == {torch.bfloat16}
    wide = load(tmp_path, dtype="float32")
    content = ids(2, pair.seed)
    positions = torch.arange(OFFSET, OFFSET + LENGTH).expand_as(content)
    rounded = theirs(model, content, positions).float()
    exact = theirs(model.float(), content, positions)
    close(ours(wide.network, content, positions), exact)

    def error(logits: Tensor) -> float:
        """That of the median token: rounding may send one to another expert."""
        return (logits.float() - exact).pow(2).mean(-1).sqrt().median().item()

    assert error(ours(kept.network, content, positions)) < 2 * error(rounded)  # both are off by rounding alone


def test_rope_scaling_matters_in_these_cases(pair: Pair) -> None:
    network = pair.checkpoint.network
    plain = Transformer(replace(network.config, rope=replace(network.config.rope, scaling=None)))
    plain.load_state_dict(network.state_dict())
    content = ids(2, pair.seed)
    positions = torch.arange(OFFSET, OFFSET + LENGTH).expand_as(content)
    difference = (ours(plain, content, positions) - ours(network, content, positions)).abs().max()
    assert (difference > 1e-3) == (network.config.rope.scaling is not None)


@pytest.mark.parametrize("style", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_dynamic_scaling_within_the_original_context(family: str, style: str, tmp_path: Path) -> None:
    """The same as transformers' up to the last position; behind it theirs turns otherwise, and ours is refused."""
    config = draw(family, 0)
    config.max_position_embeddings = LENGTH
    config.rope_parameters = {"rope_theta": 100.0, "rope_type": "dynamic", "factor": 4.0}
    model = fill(transformers.AutoModelForCausalLM.from_config(config), 0)
    model.save_pretrained(tmp_path / "published")
    if style == "rope_scaling":
        file = tmp_path / "published" / "config.json"
        fields = json.loads(file.read_text())
        del fields["rope_parameters"]
        file.write_text(json.dumps(fields | {"rope_theta": 100.0, "rope_scaling": {"type": "dynamic", "factor": 4.0}}))
    checkpoint = load(tmp_path / "published")
    content, longer = ids(2, 0), ids(2, 0, LENGTH + 1)
    positions, more = torch.arange(LENGTH).expand_as(content), torch.arange(LENGTH + 1).expand_as(longer)
    close(ours(checkpoint.network, content, positions), theirs(model, content, positions))

    save(checkpoint, tmp_path / "ours")
    fields = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert fields["rope_scaling"] == {"rope_type": "dynamic", "factor": 4.0}
    assert fields["max_position_embeddings"] == LENGTH and load(tmp_path / "ours").config == checkpoint.config
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert torch.equal(theirs(again, longer, more), theirs(model, longer, more))

    wider = Transformer(replace(checkpoint.config, max_positions=LENGTH + 1))
    wider.load_state_dict(checkpoint.network.state_dict())
    far = theirs(model, longer, more)
    assert (ours(wider, longer, more) - far).abs().max() > 0.01 * far.abs().max()
    with pytest.raises(SettingError, match=f"position {LENGTH} is beyond the model's {LENGTH} positions; shorten"):
        ours(checkpoint.network, longer, more)


def test_every_field_of_a_scaling_is_heard_and_written() -> None:
    """Each changes the angles of some case, so that losing one on the way would show."""
    for number, scaling in enumerate(SCALINGS):
        rope = read_rope(Fields({"rope_parameters": {"rope_theta": 100.0, **scaling}}, "config.json"), 128)
        again = read_rope(Fields(write_rope(rope), "config.json"), 128)
        assert again == rope
        for name in scaling:
            less = {key: value for key, value in scaling.items() if key not in ("rope_type", name)}
            if name in ("rope_type", "factor"):
                continue
            other = read_rope(
                Fields({"rope_scaling": {"type": rope.scaling.type, **less}, "rope_theta": 100.0}, ""), 128
            )  # type: ignore[union-attr]
            default = getattr(RopeScaling("", 1.0), name) == scaling[name]
            angles = [torch.cat(one.angles(torch.arange(99), 16)) for one in (rope, other)]
            assert torch.equal(*angles) == default, (number, name)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("seed", range(6))
def test_config_in_the_style_of_transformers_4(family: str, seed: int, tmp_path: Path) -> None:
    config = draw(family, seed)
    model = fill(transformers.AutoModelForCausalLM.from_config(config), seed)
    model.save_pretrained(tmp_path)
    newer = load(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    rope = fields.pop("rope_parameters")
    fields["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    fields["rope_scaling"] = None if kind == "default" else {"type" if seed % 2 else "rope_type": kind, **rope}
    fields["torch_dtype"] = fields.pop("dtype")
    if "num_local_experts" in fields:
        fields["num_experts"] = fields.pop("num_local_experts")
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert load(tmp_path).config == newer.config


@pytest.mark.parametrize("seed", range(3))
def test_experts_stored_in_one_tensor(seed: int, tmp_path: Path) -> None:
    model = fill(transformers.AutoModelForCausalLM.from_config(draw("qwen3_moe", seed)), seed)
    model.save_pretrained(tmp_path)
    published = load(tmp_path)
    state = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    assert any(name.endswith("experts.gate_up_proj") for name in state)
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    fused = load(tmp_path)
    for (name, one), (_, other) in zip(
        published.network.named_parameters(), fused.network.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    save(fused, tmp_path / "again")
    assert "model.layers.1.mlp.experts.0.up_proj.weight" in load_file(tmp_path / "again" / "model.safetensors") or (
        1 in published.config.moe.dense_layers  # type: ignore[union-attr]
    )


@pytest.mark.parametrize(
    ("family", "name", "model_type"),
    [
        ("qwen3", "sdar", "sdar"),
        ("qwen3_moe", "sdar", "sdar_moe"),
        ("qwen2", "fast_dllm_v2", "Fast_dLLM_Qwen"),
        ("qwen2", "wedlm", "wedlm"),
        ("qwen2", "dream", "Dream"),
        ("qwen3", "wedlm", "wedlm"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_qwen_by_another_name(family: str, name: str, model_type: str, seed: int, tmp_path: Path) -> None:
    config = draw(family, seed)
    if name == "wedlm":
        config.attention_bias = False  # there it is the bias of query, key and value alone
    model = fill(transformers.AutoModelForCausalLM.from_config(config), seed)
    model.save_pretrained(tmp_path / family)
    adapted = replace(load(tmp_path / family), family=name, block_size=8, mask_token_id=60)
    save(adapted, tmp_path / "other")
    file = tmp_path / "other" / "config.json"
    assert json.loads(file.read_text())["model_type"] == model_type
    content = ids(2, seed)
    positions = torch.arange(LENGTH).expand_as(content)
    close(ours(load(tmp_path / "other").network, content, positions), theirs(model, content, positions))
    fields = json.loads(file.read_text()) | {"model_type": family}
    del fields["auto_map"]
    file.write_text(json.dumps(fields))
    reopened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "other").eval()
    assert torch.equal(theirs(reopened, content, positions), theirs(model, content, positions))
