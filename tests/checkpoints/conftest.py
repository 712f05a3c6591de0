"""A small checkpoint of every family, with and without a tokenizer, made without `transformers`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.attention.positions import Rope, RopeScaling
from interlace.checkpoints import Checkpoint, save
from interlace.nn.config import MoE, TransformerConfig
from interlace.nn.transformer import Transformer

SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 12,
    "max_positions": 64,
}
MASKED = ("sdar", "fast_dllm_v2", "wedlm", "dream", "llada")
EXPERTS = MoE(experts=3, per_token=2, intermediate_size=10, normalise=False, dense_layers=(1,))
YARN = Rope((500.0,), scaling=RopeScaling("yarn", 4.0, 16, attention_factor=1.2))
NETWORKS: dict[str, TransformerConfig] = {
    "llama": TransformerConfig(
        **SMALL, qk_norm=False, tied=False, qkv_bias=True, out_bias=True, mlp_bias=True,
        rope=Rope((500.0,), scaling=RopeScaling("llama3", 8.0, 32)),
    ),
    "qwen2": TransformerConfig(**SMALL, qk_norm=False, qkv_bias=True),
    "qwen3": TransformerConfig(**SMALL, rope=YARN),
    "qwen3_moe": TransformerConfig(**SMALL, tied=False, moe=EXPERTS),
    "sdar": TransformerConfig(**SMALL, tied=False),
    "fast_dllm_v2": TransformerConfig(**SMALL, qk_norm=False, qkv_bias=True, tied=False),
    "wedlm": TransformerConfig(**SMALL, qk_norm=True, tied=False),
    "dream": TransformerConfig(**SMALL, qk_norm=False, qkv_bias=True, tied=False),
    "llada": TransformerConfig(**SMALL | {"head_dim": 6}, qk_norm=False, tied=False),
    "interlace": TransformerConfig(
        features=5, hidden_size=24, intermediate_size=20, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=12,
        max_positions=64, levels=True, classes=3, gated_mlp=False, qk_norm=True, rope=Rope((10.0, 100.0), split=(1, 2)),
    ),
}  # fmt: skip


def network(config: TransformerConfig, seed: int = 0) -> Transformer:
    """Every weight at random, so that no two can be confused."""
    made = Transformer(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(generator=generator)
    return made


def tokenizer(size: int = 32) -> Any:
    """Letters as words: id 0 ends a text, id 1 is the mask."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    words = ["<|endoftext|>", "<|MASK|>", *(chr(97 + i) if i < 26 else f"w{i}" for i in range(size - 2))]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="a"))
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in words[:2]])
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def checkpoint(family: str, seed: int = 0, **changes: Any) -> Checkpoint:
    """A checkpoint of that family; ``changes`` to its fields."""
    masked: dict[str, Any] = {"block_size": 8, "mask_token_id": 1} if family in MASKED else {}
    return Checkpoint(**{"network": network(NETWORKS[family], seed), "family": family, **masked, **changes})


def same_weights(one: Transformer, other: Transformer) -> bool:
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy disk takes seconds for what ``os.fsync`` asks of it; who fsyncs is tested, not the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound Qwen3 folder with a tokenizer, to be damaged."""
    save(checkpoint("qwen3", tokenizer=tokenizer(), stop_token_ids=(0,)), tmp_path / "sound")
    return tmp_path / "sound"


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change fields of a JSON file; None removes one."""

    def change(file: Path, **fields: Any) -> None:
        values = json.loads(file.read_text()) | fields
        kept = {name: value for name, value in values.items() if value is not None or name not in fields}
        file.write_text(json.dumps(kept))

    return change
