"""Weights in 8 bits: the same model, nearly."""

from __future__ import annotations

import pytest
import torch

from interlace.engine import Engine, Request
from interlace.errors import SettingError
from interlace.model import load
from interlace.nn import Transformer, TransformerConfig
from interlace.nn.config import MoE
from interlace.quantization import quantize

SHAPE = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1,
    "head_dim": 16,
}  # fmt: skip


def network() -> Transformer:
    return Transformer(TransformerConfig(**SHAPE)).initialise(torch.Generator().manual_seed(0), std=0.2).eval()


def test_every_linear_layer_is_within_half_a_step() -> None:
    pytest.importorskip("torchao")
    plain, small = network(), network()
    quantize(small, "int8")
    changed = 0
    for (name, before), (_, after) in zip(plain.named_modules(), small.named_modules(), strict=True):
        if isinstance(before, torch.nn.Linear):
            step = before.weight.abs().amax(1, keepdim=True) / 127
            kept = after.weight.dequantize()  # type: ignore[operator,union-attr]
            assert ((kept - before.weight).abs() <= 0.51 * step).all(), name
            changed += not torch.equal(kept, before.weight)
    assert changed == 9  # four a block, and the head
    ids = torch.arange(12)[None]
    with torch.no_grad():
        full, less = (net.head(net(ids, ids)) for net in (plain, small))
    assert 0 < (full - less).abs().max() < 0.1 * full.abs().max()


def test_an_engine_runs_it() -> None:
    pytest.importorskip("torchao")
    model = load("twin", quantize="int8")
    engine = Engine(model)
    for start in (40, 41, 42):
        engine.add(Request(tuple(range(start, start + 8)), 8))
    tokens = 0
    while engine.busy:
        tokens += sum(len(event.content) for event in engine.step())  # type: ignore[union-attr]
    assert tokens >= 24


def test_what_cannot_be_quantised() -> None:
    with pytest.raises(SettingError, match="unknown quantisation 'int3'; known: int8"):
        quantize(network(), "int3")
    experts = Transformer(TransformerConfig(**SHAPE, moe=MoE(4, 2, 16)))
    with pytest.raises(SettingError, match="the weights of experts cannot be quantised"):
        quantize(experts, "int8")
