"""Weights in 8 bits: the same model, nearly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interlace.engine import Engine, Request
from interlace.errors import SettingError
from interlace.generation import Event
from interlace.model import load
from interlace.nn import Transformer, TransformerConfig
from interlace.nn.config import MoE
from interlace.nn.native import Native, accelerated, library
from interlace.quantization import quantize

SHAPE = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1,
    "head_dim": 16,
}  # fmt: skip


def network(**changes: Any) -> Transformer:
    config = TransformerConfig(**(SHAPE | changes))
    return Transformer(config).initialise(torch.Generator().manual_seed(0), std=0.2).eval()


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


@pytest.mark.skipif(library() is None, reason="no C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"mlp_bias": True, "qkv_bias": True, "out_bias": True, "hidden_size": 37}])
def test_the_compiled_blocks_are_the_network_of_the_kept_weights(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    """Beside torchao's product, and beside the same network with scale * q written out in float32."""
    pytest.importorskip("torchao")
    small = network(tied=False, **changes).to(dtype)
    quantize(small, "int8")
    written = network(tied=False, **changes)
    for before, after in zip(written.modules(), small.modules(), strict=True):
        if isinstance(before, torch.nn.Linear):
            weight = after.weight
            before.weight.data = weight.qdata.float() * weight.scale  # type: ignore[operator,union-attr]
            if before.bias is not None:
                before.bias.data = after.bias.data.float()  # type: ignore[operator,union-attr]
        elif list(before.parameters(recurse=False)):
            before.weight.data = after.weight.data.float()  # type: ignore[operator,union-attr]
    fast = accelerated(small)
    assert isinstance(fast, Native)
    ids, places = torch.randint(0, 32, (3, 5), generator=torch.Generator().manual_seed(0)), torch.arange(5)[None]
    with torch.inference_mode():
        found, exact, product = (net.head(net(ids, places)).float() for net in (fast, written, small))
    if dtype is torch.float32:
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    else:
        far = [(one - exact).abs().mean() for one in (found, product)]
        assert far[0] <= far[1]  # sums stay float32


@pytest.mark.skipif(library() is None, reason="no C++ compiler")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_is_the_same_to_the_bit_alone_and_in_a_mix(dtype: str) -> None:
    pytest.importorskip("torchao")
    model = load("twin", quantize="int8", dtype=dtype)
    prompts = [tuple(range(40 + 7 * i, 43 + 10 * i)) for i in range(6)]
    requests = [Request(prompt, 12, details=True, stop=(), seed=i) for i, prompt in enumerate(prompts)]

    def told(engine: Engine, asked: list[Request]) -> list[list[float]]:
        numbers = [engine.add(request) for request in asked]
        found: dict[int, list[float]] = {number: [] for number in numbers}
        while engine.busy:
            for event in engine.step():
                assert isinstance(event, Event) and event.log_prob is not None
                found[event.row] += [*event.content.tolist(), *event.log_prob.tolist()]
        return [found[number] for number in numbers]

    alone = [told(Engine(model), [request])[0] for request in requests]
    assert told(Engine(model, chunk=8, rows=4), requests) == alone


def test_other_quantised_weights_run_as_plain_pytorch() -> None:
    pytest.importorskip("torchao")
    for change in ("zero_point", "one layer"):
        small = network()
        if change == "one layer":
            from torchao.quantization import Int8WeightOnlyConfig, quantize_

            quantize_(small.blocks[0].mlp, Int8WeightOnlyConfig())
        else:
            quantize(small, "int8")
            small.blocks[1].mlp.up.weight.zero_point += 1  # type: ignore[operator,union-attr]
        assert accelerated(small) is small


def test_what_cannot_be_quantised() -> None:
    with pytest.raises(SettingError, match="unknown quantisation 'int3'; known: int8"):
        quantize(network(), "int3")
    experts = Transformer(TransformerConfig(**SHAPE, moe=MoE(4, 2, 16)))
    with pytest.raises(SettingError, match="the weights of experts cannot be quantised"):
        quantize(experts, "int8")
