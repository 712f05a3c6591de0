"""A tiny model of letters, with random weights that stay the same."""

from __future__ import annotations

from typing import Any

import torch

from interlace.checkpoints import Checkpoint
from interlace.model import Model
from interlace.nn import Transformer, TransformerConfig
from interlace.systems import find
from interlace.worlds.tokenizer import MASK_ID, character_tokenizer

__all__ = ["model"]


def model(system: str, **changes: Any) -> Model:
    tokenizer = character_tokenizer("abcdefgh =()\n")
    config = TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=24, num_layers=3, num_heads=4,
        num_kv_heads=2, head_dim=8, max_positions=64,
    )  # fmt: skip
    net = Transformer(config).initialise(torch.Generator().manual_seed(0), std=0.5).eval()
    found = find(system)
    settings = found.settings if system == "ar" else found.settings.but(mask_id=MASK_ID, block_size=4, **changes)
    return Model(Checkpoint(net, tokenizer, mask_token_id=MASK_ID), found, settings)
