"""Small random models over characters: autoregressive, and masked in blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interlace.checkpoints import Checkpoint
from interlace.model import Model
from interlace.nn import Transformer, TransformerConfig
from interlace.systems import find
from interlace.worlds.tokenizer import MASK_ID, character_tokenizer

ALPHABET = "abcdefgh =()\n"

Make = Callable[..., Model]


@pytest.fixture(scope="session")
def make() -> Make:
    """make(system, block_size, seed, uniform, stop): a model; ``uniform`` predicts every token alike."""

    def made(
        system: str = "sdar", block_size: int = 4, seed: int = 0, uniform: bool = False, stop: tuple[int, ...] = ()
    ) -> Model:
        tokenizer = character_tokenizer(ALPHABET)
        config = TransformerConfig(
            vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2,
            num_kv_heads=1, head_dim=8, max_positions=128, tied=False,
        )  # fmt: skip
        network = Transformer(config).initialise(torch.Generator().manual_seed(seed), std=0.5)
        if uniform:
            torch.nn.init.zeros_(network.output.weight)
        network.eval()
        masked = system != "ar"
        checkpoint = Checkpoint(
            network, tokenizer, "sdar" if masked else "qwen3", block_size if masked else None, MASK_ID, stop
        )
        found = find(system)
        settings = found.settings.but(mask_id=MASK_ID, block_size=block_size if masked else None)
        return Model(checkpoint, found, settings)

    return made
