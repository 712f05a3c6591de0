"""How far every block turns the residual stream: what a network's layers do, measured.

h_0 are the embeddings, h_l the stream behind block l, before the last norm; cos is over channels, means are over the
tokens that count.

similarity   s_l = mean cos(h_{l-1}[i], h_l[i])          near 1: the block hardly turns the stream
matrix       S[l, m] = mean cos(h_l[i], h_m[i])          s is its first super-diagonal
neighbours   n_l = mean cos(h_l[i], h_l[i + 1])
recency      P_l(1) - mean_{d >= 16} P_l(d), with P_l(d) = mean cos(h_l[i], h_l[i + d])
step         mean |h_l - h_{l-1}| / |h_{l-1}|            a long stream hides small turns
distance     mean over heads of sum_j a_ij |i - j|       how far attention looks, in tokens
uniform      the same if no key stood out                what the pattern alone makes of it

Source: arXiv:2603.07475 (similarity, matrix, neighbours; the others are ours).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..errors import DataError, SettingError
from .distance import Places
from .progress import watched

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["BUCKETS", "LayerAnalysis", "Regime", "analyse"]

Regime = Literal["clean", "denoise", "allmask"]
BUCKETS = ((0.75, 1.0), (0.5, 0.75), (0.25, 0.5), (0.0, 0.25))
"""Shares of a forward's open tokens, from the first denoising steps to the last."""
NEAR, FAR = 16, 64


@dataclass(frozen=True)
class LayerAnalysis:
    """What was measured; L numbers each, of block 1 to L.

    deviation: of the cosines over tokens. distance: of attention, in tokens; ``uniform``: it, if no key stood out.
    matrix: [L + 1][L + 1]. by_ratio: similarity for each of ``BUCKETS`` (``denoise``; empty where nothing fell).
    tokens: how many were counted.
    """

    regime: Regime
    similarity: tuple[float, ...]
    deviation: tuple[float, ...]
    step: tuple[float, ...]
    neighbours: tuple[float, ...]
    recency: tuple[float, ...]
    distance: tuple[float, ...]
    uniform: float
    matrix: tuple[tuple[float, ...], ...]
    by_ratio: tuple[tuple[float, ...], ...]
    tokens: int


def analyse(
    model: Model, texts: Sequence[str], regime: Regime = "clean", length: int = 128, progress: bool = False
) -> LayerAnalysis:
    """Let the model read ``texts`` (at most ``length`` tokens each) and say what its layers do.

    Args:
        regime: ``clean``: every model reads the same text, unmasked; the only fair comparison of autoregression and
            diffusion. ``denoise``: a rollout behind the first half of every text, its open tokens alone; the one to
            choose layers by. ``allmask``: all masks, which make early layers look idle in any model.

    Raises ``SettingError`` for a regime that the model does not have, ``DataError`` when no token is left to count.

    >>> analyse(model, pieces(standard_library("heldout"), 16)).similarity     # doctest: +SKIP
    """
    mask_id = getattr(model.parts.process, "mask_id", None)
    if regime not in ("clean", "denoise", "allmask"):
        raise SettingError(f"unknown regime {regime!r}; pass clean, denoise or allmask")
    if regime != "clean" and mask_id is None:
        raise SettingError(f"{model.system.name} has no masks to {regime}; pass regime clean")
    length = min(length, model.network.config.max_positions)
    rows = [row for row in (model.encode_prompt(text)[:length] for text in texts) if len(row) > 1]
    sums = _Sums(len(model.network.blocks))
    with torch.inference_mode(), _watching(model.network, sums, mask_id if regime == "denoise" else None):
        for row in watched(rows, len(rows), "layers", progress):
            if regime == "denoise":
                half = max(1, len(row) // 2)
                for _ in model.stream([row[:half]], len(row) - half, stop=()):
                    pass
            else:
                content = torch.tensor([row if regime == "clean" else [mask_id] * len(row)])
                _read(model, content.to(next(model.network.parameters()).device))
    if not sums.count:
        raise DataError("no token is left to count; pass longer texts")
    return sums.result(regime)


def _read(model: Model, content: Tensor) -> None:
    """One forward under the model's own pattern."""
    from ..attention.kernels import make_mask
    from ..attention.patterns import Tags

    parts, index = model.parts, torch.arange(content.shape[1], device=content.device)[None]
    zero = torch.zeros_like(index)
    tags = Tags(index, parts.layout.unit(index), zero, zero)
    model.network(content, parts.layout.positions(index), make_mask(parts.pattern, tags))


class _Sums:
    """Running sums over tokens of all that is reported."""

    def __init__(self, layers: int) -> None:
        self.layers, self.count, self.pairs = layers, 0, 0
        self.matrix = torch.zeros(layers + 1, layers + 1, dtype=torch.float64)
        self.square, self.step, self.distance = (torch.zeros(layers, dtype=torch.float64) for _ in range(3))
        self.uniform = 0.0
        self.near, self.profile = (torch.zeros(layers, FAR, dtype=torch.float64) for _ in range(2))
        self.buckets = torch.zeros(len(BUCKETS), layers, dtype=torch.float64)
        self.filled = torch.zeros(len(BUCKETS), dtype=torch.float64)

    def attended(self, distance: list[Tensor], uniform: Tensor, counted: Tensor) -> None:
        """distance: L of [n]; uniform [n]: what they would be if no key stood out; counted: boolean [n]."""
        self.distance += torch.stack(distance)[:, counted].double().sum(-1).cpu()
        self.uniform += float(uniform[counted].double().sum())

    def add(self, states: list[Tensor], counted: Tensor) -> None:
        """states: L + 1 of [n, width]; counted: boolean [n]."""
        if not counted.any():
            return
        stream = torch.stack(states).double()
        unit = stream / stream.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        inside = unit[:, counted]
        cosines = torch.einsum("lnc,mnc->lmn", inside, inside)
        turned = cosines.diagonal(1, 0, 1).T  # [L, n]: s of every token
        many = int(counted.sum())
        self.count += many
        self.matrix += cosines.sum(-1).cpu()
        self.square += turned.square().sum(-1).cpu()
        moved = (stream[1:] - stream[:-1]).norm(dim=-1) / stream[:-1].norm(dim=-1).clamp_min(1e-30)
        self.step += moved[:, counted].sum(-1).cpu()
        for distance in range(1, min(FAR, stream.shape[1] - 1) + 1):
            both = counted[:-distance] & counted[distance:]
            value = (unit[1:, :-distance] * unit[1:, distance:]).sum(-1)[:, both]
            self.profile[:, distance - 1] += value.sum(-1).cpu()
            self.near[:, distance - 1] += int(both.sum())
        ratio = many / len(counted)
        for number, (low, high) in enumerate(BUCKETS):
            if low < ratio <= high:
                self.buckets[number] += turned.sum(-1).cpu()
                self.filled[number] += many

    def result(self, regime: Regime) -> LayerAnalysis:
        matrix = self.matrix / self.count
        similarity = matrix.diagonal(1)
        spread = (self.square / self.count - similarity.square()).clamp_min(0).sqrt()
        profile = self.profile / self.near.clamp_min(1)
        there = self.near[:, NEAR - 1 :] > 0
        far = (profile[:, NEAR - 1 :] * there).sum(-1) / there.sum(-1).clamp_min(1)
        by_ratio = [
            tuple((sums / many).tolist()) if many else ()
            for sums, many in zip(self.buckets, self.filled.tolist(), strict=True)
        ]
        return LayerAnalysis(
            regime=regime,
            similarity=tuple(similarity.tolist()),
            deviation=tuple(spread.tolist()),
            step=tuple((self.step / self.count).tolist()),
            neighbours=tuple(profile[:, 0].tolist()),
            recency=tuple((profile[:, 0] - far).tolist()),
            distance=tuple((self.distance / self.count).tolist()),
            uniform=self.uniform / self.count,
            matrix=tuple(tuple(row) for row in matrix.tolist()),
            by_ratio=tuple(by_ratio) if regime == "denoise" else (),
            tokens=self.count,
        )


@contextmanager
def _watching(network: Any, sums: _Sums, mask_id: int | None) -> Iterator[None]:
    """Every forward of the network adds its stream; with ``mask_id``, the tokens that are masks alone."""
    states: list[Tensor] = []
    shown: list[Tensor] = []
    distances: list[tuple[Tensor, Tensor]] = []
    places = Places()

    def begin(module: Any, given: tuple[Any, ...]) -> None:
        states.clear()
        distances.clear()
        content, positions, _, *kept = given
        shown[:] = [content]
        places.feed(positions, *kept)

    def before(module: Any, given: tuple[Any, ...]) -> None:
        states.append(given[0])

    def behind(module: Any, given: Any, output: Tensor) -> None:
        states.append(output)

    def attending(module: Any, given: tuple[Any, ...], output: Tensor) -> None:
        distances.append(places.distance(module, given))

    def end(module: Any, given: Any, output: Tensor) -> None:
        for r in range(shown[0].shape[0]):
            counted = torch.ones_like(shown[0][r], dtype=torch.bool) if mask_id is None else shown[0][r] == mask_id
            sums.add([state[r] for state in states], counted)
            sums.attended([distance[r] for distance, _ in distances], distances[0][1][r], counted)

    hooks = [
        network.register_forward_pre_hook(begin),
        network.blocks[0].register_forward_pre_hook(before),
        *(block.register_forward_hook(behind) for block in network.blocks),
        *(block.attention.register_forward_hook(attending) for block in network.blocks),
        network.register_forward_hook(end),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
