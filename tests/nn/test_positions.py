"""Positions inside the network: the same with a table and without, none beyond the last."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from interlace.attention.positions import Rope, RopeScaling
from interlace.errors import SettingError
from interlace.nn import Transformer, TransformerConfig
from interlace.nn.transformer import TABLE

CONFIG = TransformerConfig(
    vocab_size=16, hidden_size=16, intermediate_size=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8
)
MILLION = 1 << 20
YARN = Rope((1e6,), scaling=RopeScaling("yarn", factor=4.0, original_max_position_embeddings=32768))


@pytest.mark.parametrize("rope", [Rope(), YARN], ids=["plain", "yarn"])
def test_without_a_table_the_numbers_are_the_same(rope: Rope) -> None:
    """Bit for bit, for rows of every length: a row shows the same angles from whichever token it is fed."""
    short = Transformer(replace(CONFIG, rope=rope, max_positions=TABLE))
    long = Transformer(replace(CONFIG, rope=rope, max_positions=MILLION))
    for n in (1, 2, 3, 5, 8, 13, 33):
        positions = torch.randint(0, TABLE, (3, n), generator=torch.Generator().manual_seed(n))
        for mine, other in zip(
            short.rotation(positions, torch.float32), long.rotation(positions, torch.float32), strict=True
        ):
            assert mine.shape == (3, 1, n, 8) and torch.equal(mine, other)


def test_a_model_of_a_million_positions_keeps_no_table() -> None:
    network = Transformer(replace(CONFIG, max_positions=MILLION))
    network(torch.zeros(1, 2, dtype=torch.long), torch.tensor([[0, MILLION - 1]]))
    held = [t for value in vars(network).values() if isinstance(value, tuple | list) for t in value]
    assert sum(t.numel() for t in held if isinstance(t, torch.Tensor)) < 100


@pytest.mark.parametrize("count", [8, MILLION])
def test_a_position_beyond_the_last(count: int) -> None:
    network = Transformer(replace(CONFIG, max_positions=count))
    ids = torch.zeros(1, 3, dtype=torch.long)
    network(ids, ids + count - 1)
    with pytest.raises(SettingError, match=f"^position {count} is beyond the model's {count} positions; shorten"):
        network(ids, ids + count)
