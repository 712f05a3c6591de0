"""Leaving blocks of a network out: which, and the network without them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

from torch import nn

from ..errors import SettingError
from .transformer import Transformer

__all__ = ["choose", "without"]


def without(network: Transformer, layers: Collection[int]) -> Transformer:
    """The network with the blocks ``layers`` (1 .. L) left out: h_l = h_{l-1}. The weights are shared.

    Positions, masks and samplers stay what they are; a block that is left out owns no keys. Source: static layer
    skipping (arXiv:2603.07475). Raises ``SettingError`` for a block that is not there.

    >>> from interlace.nn import TransformerConfig
    >>> network = Transformer(TransformerConfig(vocab_size=32, num_layers=4))
    >>> len(without(network, (2, 4)).blocks), len(network.blocks)
    (2, 4)
    """
    count = len(network.blocks)
    wrong = sorted(layer for layer in set(layers) if not 1 <= layer <= count)
    if wrong:
        raise SettingError(f"layer {wrong[0]} cannot be left out of {count} layers; pass numbers from 1 to {count}")
    left = copy.copy(network)
    left._modules = dict(network._modules)
    left.blocks = nn.ModuleList(block for number, block in enumerate(network.blocks, 1) if number not in layers)
    return left


def choose(
    similarity: Sequence[float],
    budget: int,
    threshold: float | None = 0.95,
    protect: Collection[int] = (),
    adjacent: bool = False,
) -> tuple[int, ...]:
    """At most ``budget`` blocks to leave out: those that turn the residual stream least, no two of them neighbours.

    Args:
        similarity: s_1 .. s_L, the cosine of the stream before and behind every block.
        threshold: a block is redundant where s_l is above it; None ranks all. protect: blocks that stay.
        adjacent: whether neighbours may go together.

    Algorithm 1 of arXiv:2603.07475. There may be fewer than ``budget``.

    >>> s = [0.90, 0.97, 0.99, 0.98, 0.96, 0.94, 0.97, 0.80]
    >>> choose(s, 2), choose(s, 3), choose(s, 4), choose(s, 3, adjacent=True)
    ((3, 7), (3, 5, 7), (3, 5, 7), (2, 3, 4))
    """
    if budget < 0:
        raise SettingError(f"the budget is {budget} layers; pass 0 or more")
    redundant = [
        layer for layer, s in enumerate(similarity, 1) if layer not in protect and (threshold is None or s > threshold)
    ]
    chosen: set[int] = set()
    for layer in sorted(redundant, key=lambda layer: (-similarity[layer - 1], layer)):
        if len(chosen) < budget and (adjacent or not {layer - 1, layer + 1} & chosen):
            chosen.add(layer)
    return tuple(sorted(chosen))
