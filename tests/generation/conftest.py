"""Small random networks with varied outputs, and ways to run the loop on them and to watch it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.patterns import BlockCausal
from interlace.attention.positions import Rope
from interlace.generation import Event, Result, collect, generate
from interlace.layouts import Blocks
from interlace.nn import MoE, Transformer, TransformerConfig

VOCABULARY, MASK = 32, 31
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "max_positions": 64,
    "rope": Rope((100.0,)),
}
BIASES = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
TEXT: dict[str, dict[str, Any]] = {
    "grouped": {},
    "biases": {"num_kv_heads": 4, "qk_norm": False, "tied": False, **BIASES},
    "experts": {"num_kv_heads": 1, "moe": MoE(experts=4, per_token=2, intermediate_size=16)},
}
FEATURES, CLASSES = 3, 2


def fill(network: Transformer, seed: int) -> Transformer:
    """Every weight at random and large, so that outputs are varied and no two weights can be confused."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.normal_(0, 0.3 if weight.dim() > 1 else 0.2, generator=generator)
            if "norm" in name:
                weight += 1
    return network.eval()


@cache
def text_network(kind: str = "grouped", seed: int = 0) -> Transformer:
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, **SMALL | TEXT[kind])), seed)


@cache
def feature_network(axes: int = 1, seed: int = 0) -> Transformer:
    """Continuous tokens, told the level and a class; labels 0, 1, and 2 for none."""
    rope = Rope((100.0,)) if axes == 1 else Rope((10.0,) * axes, split=(2, 1, 1)[:axes])
    config = TransformerConfig(
        features=FEATURES, levels=True, classes=CLASSES, gated_mlp=False, **SMALL | {"rope": rope}
    )
    return fill(Transformer(config), seed)


def stream(
    network: Any, prompts: Sequence[Any], length: Any, process: Any, schedule: Any, **options: Any
) -> Iterator[Event]:
    """The loop, on blocks of 4 under a block-causal pattern unless told otherwise."""
    options = {"layout": Blocks(4), "pattern": BlockCausal()} | options
    return generate(network, prompts, length, process=process, schedule=schedule, **options)


def run(network: Any, prompts: Sequence[Any], length: Any, *parts: Any, **options: Any) -> list[Result]:
    """The finished rows, with all details."""
    events = stream(network, prompts, length, *parts, **{"details": True} | options)
    return collect(events, prompts, length, options.get("stop", ()))


def same(one: Result, other: Result, tolerance: float = 1e-4) -> None:
    """Equal tokens, orders and ends; log-probabilities and features up to rounding."""
    assert one.content.shape == other.content.shape and one.row.shape == other.row.shape
    if one.row.is_floating_point():
        torch.testing.assert_close(one.row, other.row, rtol=1e-5, atol=tolerance)
    else:
        assert one.row.tolist() == other.row.tolist()
    assert one.stopped == other.stopped
    if one.log_prob is not None and other.log_prob is not None and one.order is not None and other.order is not None:
        torch.testing.assert_close(one.log_prob, other.log_prob, rtol=0, atol=tolerance)
        assert one.order.tolist() == other.order.tolist()


def tokens(count: int, seed: int = 0) -> list[int]:
    """A prompt without masks."""
    return torch.randint(0, MASK, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def features(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))


class Watch:
    """What the network is asked while it generates: every prediction, and the tokens of every forward."""

    def __init__(self, network: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.predictions: list[Tensor] = []
        self.fed: list[tuple[int, int]] = []
        head, forward = network.head, network.forward

        def watched_head(hidden: Tensor) -> Tensor:
            self.predictions.append(prediction := head(hidden))
            return prediction.clone()

        def watched_forward(content: Tensor, *args: Any, **told: Any) -> Tensor:
            self.fed.append((content.shape[0], content.shape[1]))
            return forward(content, *args, **told)

        monkeypatch.setattr(network, "head", watched_head)
        monkeypatch.setattr(network, "forward", watched_forward)

    def take(self) -> tuple[list[Tensor], list[tuple[int, int]]]:
        """What was seen since the last time."""
        seen = self.predictions, self.fed
        self.predictions, self.fed = [], []
        return seen
