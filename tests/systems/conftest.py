"""Small random networks, and a plain two-copy forward."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.kernels import make_mask
from interlace.attention.patterns import Pattern, Tags
from interlace.attention.positions import Rope
from interlace.generation import OPEN, collect, generate
from interlace.layouts import Layout
from interlace.memory import ExactKV, kinds
from interlace.nn import Transformer, TransformerConfig
from interlace.systems import Parts

VOCABULARY, MASK, FEATURES, CLASSES = 32, 31, 3, 2
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 40, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8,
    "max_positions": 64,
}  # fmt: skip


def fill(network: Transformer, seed: int = 0) -> Transformer:
    """Every weight at random and large; nothing to train."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3, generator=generator)
    return network.eval().requires_grad_(False)


@cache
def text_network() -> Transformer:
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, **SHAPE)))


@cache
def video_network(axes: int = 3) -> Transformer:
    """Features of 3 numbers at (t, h, w), told the level and one of two classes; label 2 is no class."""
    rope = Rope((10.0,) * 3, split=(2, 1, 1)) if axes == 3 else Rope((10.0,))
    config = TransformerConfig(features=FEATURES, levels=True, classes=CLASSES, gated_mlp=False, **SHAPE, rope=rope)
    return fill(Transformer(config))


def tokens(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, MASK, (count,), generator=torch.Generator().manual_seed(seed))


def features(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))


def two_copies(
    network: Transformer, layout: Layout, pattern: Pattern, noisy: Tensor, clean: Tensor, **told: Tensor
) -> tuple[Tensor, Tensor]:
    """What the network says of both copies, [n, ...] each; ``level`` [n] is that of the noisy copy."""
    n = len(noisy)
    tags = Tags(*(torch.cat(pair)[None] for pair in zip(layout.tags(n, copy=1), layout.tags(n), strict=True)))
    if "level" in told:
        told["level"] = torch.cat((told["level"], torch.zeros(n)))[None]
    if "label" in told:
        told["label"] = told["label"].expand(1, 2 * n)
    positions = layout.positions(torch.cat((torch.arange(n), torch.arange(n))))
    mask = make_mask(pattern, tags, kernel="dense")
    said = network.head(network(torch.cat((noisy, clean))[None], positions[None], mask, **told))[0]
    return said[:n], said[n:]


def same_in_training_and_sampling(parts: Parts, layout: Layout, predictions: list[Tensor], **options: Any) -> None:
    """Noisy logits of every block in the two-copy row = those of the partly known block behind the clean past.

    layout: the blocks of training. For systems that predict a token at its own place. Some tokens of every block are
    known, which is the case that goes wrong; the first is not, so that the prompt ends where the block begins.
    """
    clean, size = tokens(16), layout.size
    masked = torch.rand(16, generator=torch.Generator().manual_seed(3)) < 0.6
    masked[::size] = True
    noisy = clean.masked_fill(masked, MASK)
    pattern: Any = parts.objective.pattern  # type: ignore[attr-defined]
    trained, _ = two_copies(text_network(), layout, pattern, noisy, clean)
    for first in range(0, 16, size):
        block = slice(first, first + size)
        prompt = torch.cat((clean[:first], noisy[block].masked_fill(masked[block], OPEN)))
        predictions.clear()
        next(generate(text_network(), [prompt], 0, **parts.sampling, drafts=True, **options))
        expected = trained[block][masked[block]]
        torch.testing.assert_close(predictions[0], expected, rtol=0, atol=1e-5 * float(trained.abs().max()))


def same_alone_and_in_a_batch(
    network: Transformer, parts: Parts, given: list[int], lengths: list[int], stop: tuple[int, ...] = (), **options: Any
) -> None:
    """Prompts of ``given`` tokens, together and each by itself: the same tokens, order, forwards and slots."""
    prompts, seeds = [tokens(n, seed=n).tolist() for n in given], list(range(1, len(given) + 1))
    options = parts.sampling | {"stop": stop, "details": True} | options
    batch = collect(generate(network, prompts, lengths, **options, seed=seeds), prompts, lengths, stop)
    for prompt, length, seed, row in zip(prompts, lengths, seeds, batch, strict=True):
        events = generate(network, [prompt], length, **options, seed=seed)
        alone = collect(events, [prompt], length, stop)[0]
        assert row.content.tolist() == alone.content.tolist()
        assert row.order is not None and alone.order is not None and row.order.tolist() == alone.order.tolist()
        assert (row.forwards, row.slots) == (alone.forwards, alone.slots)
        torch.testing.assert_close(row.log_prob, alone.log_prob, rtol=1e-4, atol=1e-4)


@pytest.fixture
def predictions(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every prediction that the small networks make from now on."""
    seen: list[Tensor] = []
    for network in (text_network(), video_network(), video_network(1)):

        def head(hidden: Tensor, head: Any = network.head) -> Tensor:
            seen.append(head(hidden))
            return seen[-1].clone()

        monkeypatch.setattr(network, "head", head)
    return seen


@pytest.fixture
def memories(monkeypatch: pytest.MonkeyPatch) -> list[ExactKV]:
    """Every cache that the loop makes from now on."""
    made: list[ExactKV] = []

    class Kept(ExactKV):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

        def keep(self, rows: list[int]) -> None:
            if rows:  # what the last row leaves is looked at
                super().keep(rows)

    monkeypatch.setitem(kinds._OWN, "exact", Kept)
    return made
