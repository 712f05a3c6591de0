"""Tiny models of every system that generates text, for engines."""

from __future__ import annotations

from typing import Any

import torch

from interlace.checkpoints import Checkpoint
from interlace.model import Model
from interlace.nn import Transformer, TransformerConfig
from interlace.systems import find
from interlace.worlds.puzzle import puzzle
from interlace.worlds.tokenizer import END_ID, MASK_ID

SYSTEMS: list[tuple[str, dict[str, Any]]] = [
    ("ar", {}),
    ("sdar", {"block_size": 4, "threshold": 0.3}),
    ("sdar", {"block_size": 6, "reveal": "entropy-bounded", "gamma": 2.0}),
    ("efficient-dlm", {"block_size": 8, "threshold": 0.3}),
    ("fast-dllm-v2", {"block_size": 8, "sub_block_size": 4, "threshold": 0.3}),
    ("fast-dllm-v2", {"block_size": 8, "sub_block_size": 4, "sub_block_cache": True, "threshold": 0.3}),
    ("wedlm", {"block_size": 8, "window": 6, "entropy": 2.5}),
    ("wedlm", {"block_size": 8, "window": 4, "entropy": 9.0, "refill": "after"}),
    ("tidar", {"block_size": 3}),
    ("diffusion-gemma", {"block_size": 4, "steps": 4}),
    ("llada", {"block_size": 4, "threshold": 0.3}),
    ("llada", {"block_size": 4, "threshold": 0.3, "cache": "prefix"}),
    ("llada", {"block_size": 4, "threshold": 0.3, "cache": "dual"}),
    ("llada", {"block_size": 4, "threshold": 0.3, "guidance": 1.7}),
    ("dream", {"block_size": 8, "steps": 4}),
    ("dream", {"block_size": 8, "steps": 4, "reveal": "ancestral"}),
    ("dream", {"block_size": 8, "steps": 4, "reveal": "least-uncertain", "order_temperature": 0.5}),
    ("sdar", {"block_size": 4, "threshold": 0.3, "order_temperature": 0.2}),
    ("eoser-ass-cjgrpo", {"block_size": 8}),
]


def model(
    system: str = "sdar",
    seed: int = 0,
    layers: int = 2,
    positions: int = 192,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Model:
    """Random weights whose predictions differ enough that rules and samplers have something to choose."""
    tokenizer = puzzle("countdown").tokenizer()
    config = TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=48, num_layers=layers, num_heads=4,
        num_kv_heads=2, head_dim=8, max_positions=positions, tied=False, qk_norm=True,
    )  # fmt: skip
    network = Transformer(config).initialise(torch.Generator().manual_seed(seed), std=0.3).eval()
    network.to(dtype)
    chosen = find(system)
    block = chosen.settings.but(**{name: value for name, value in changes.items() if name == "block_size"}).block_size
    checkpoint = Checkpoint(
        network, tokenizer, "qwen3", stop_token_ids=(END_ID,), mask_token_id=MASK_ID, block_size=block
    )
    settings = chosen.settings.read(mask_id=MASK_ID, eos_ids=(END_ID,))
    return Model(checkpoint, chosen, settings.but(**changes))
