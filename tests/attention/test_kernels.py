"""Both kernels compute the same attention, from the same predicate, as a few lines of softmax do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.kernels import attend, make_mask
from interlace.attention.patterns import Bidirectional, BlockCausal, Causal, PrefixBidirectional, Tags, TwoCopy
from interlace.layouts import Blocks

PATTERNS = [Causal(), Bidirectional(), BlockCausal(), PrefixBidirectional(2), TwoCopy(), TwoCopy(Causal())]


def packed_rows() -> Tags:
    """Two rows of 16: two documents in two copies each and padding; one document in two copies."""
    layout = Blocks(2)

    def row(*parts: Tags) -> Tags:
        return Tags(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    first = row(*(layout.tags(n, document, copy) for document, n in enumerate((4, 3)) for copy in (1, 0)))
    first = row(first, layout.tags(2, document=-1))
    second = row(layout.tags(8, copy=1), layout.tags(8))
    return Tags(*(torch.stack(pair) for pair in zip(first, second, strict=True)))


def plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, every key head repeated for its group of query heads."""
    shared = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(shared, 1).double() for t in (k, v))
    score = q.double() @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        score = score.masked_fill(~mask, float("-inf"))
    return score.softmax(-1) @ v


def qkv(rows: int, heads: int, shared: int, n: int, m: int, d: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, heads, n, d), (rows, heads // shared, m, d), (rows, heads // shared, m, d)]
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_both_kernels_evaluate_the_same_predicate(pattern: Any) -> None:
    tags = packed_rows()
    rows, n = tags.index.shape
    block_mask = make_mask(pattern, tags, "flex")
    assert not isinstance(block_mask, Tensor)
    b, i, j = torch.arange(rows).view(-1, 1, 1), torch.arange(n).view(1, -1, 1), torch.arange(n).view(1, 1, -1)
    visible = block_mask.mask_mod(b, torch.zeros_like(b), i, j)
    mask = make_mask(pattern, tags, "dense")
    assert isinstance(mask, Tensor) and mask.shape == (rows, 1, n, n) and mask.dtype == torch.bool
    assert torch.equal(visible, mask[:, 0])


def test_padding_sees_itself_only() -> None:
    mask = make_mask(BlockCausal(), packed_rows(), "dense")
    assert isinstance(mask, Tensor)
    assert mask[0, 0, 14:].int().tolist() == [[0] * 14 + [1, 0], [0] * 15 + [1]]
    assert mask[0, 0, :14, 14:].sum() == 0


def test_the_kernel_is_dense_on_a_cpu_unless_asked_for() -> None:
    assert isinstance(make_mask(Causal(), packed_rows()), Tensor)


@torch.no_grad()
@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("pattern", [BlockCausal(), TwoCopy()], ids=repr)
def test_flex_equals_sdpa(pattern: Any, shared: int) -> None:
    tags = packed_rows()
    q, k, v = qkv(rows=2, heads=4, shared=shared, n=16, m=16, d=16)
    flex = attend(q, k, v, make_mask(pattern, tags, "flex"))
    sdpa = attend(q, k, v, make_mask(pattern, tags, "dense"))
    torch.testing.assert_close(flex, sdpa, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("heads", "shared"), [(4, 1), (4, 2), (6, 3), (4, 4)])
@pytest.mark.parametrize(
    "shape", [None, (2, 1, 5, 7), (1, 1, 5, 7), (5, 7), (2, 1, 1, 7), (2, "heads", 5, 7)], ids=repr
)
def test_grouped_heads_share_keys(heads: int, shared: int, shape: tuple[Any, ...] | None) -> None:
    q, k, v = qkv(rows=2, heads=heads, shared=shared, n=5, m=7)
    mask = None
    if shape is not None:
        size = [heads if side == "heads" else side for side in shape]
        mask = torch.rand(size, generator=torch.Generator().manual_seed(1)) < 0.5
        mask[..., 0] = True
    seen = attend(q, k, v, mask)
    assert seen.shape == q.shape
    torch.testing.assert_close(seen.double(), plain(q, k, v, mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shared", [1, 2])
def test_gradients_reach_queries_keys_and_values(shared: int) -> None:
    leaves = [t.requires_grad_() for t in qkv(rows=1, heads=4, shared=shared, n=6, m=6)]
    mask = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    mine = torch.autograd.grad(attend(*leaves, mask).square().sum(), leaves)
    reference = torch.autograd.grad(plain(*leaves, mask).square().sum(), leaves)
    for one, other in zip(mine, reference, strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), atol=1e-4, rtol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("pattern", [BlockCausal(), TwoCopy()], ids=repr)
def test_flex_equals_sdpa_on_cuda_with_gradients(pattern: Any) -> None:
    layout = Blocks(16)
    row = Tags(*(torch.cat(pair) for pair in zip(layout.tags(128, copy=1), layout.tags(128), strict=True)))
    tags = Tags(*(tensor[None].cuda() for tensor in row))
    leaves = [t.cuda().requires_grad_() for t in qkv(rows=1, heads=4, shared=2, n=256, m=256, d=32)]
    results = []
    for kernel in ("flex", "dense"):
        seen = attend(*leaves, make_mask(pattern, tags, kernel))
        results.append([seen, *torch.autograd.grad(seen.square().sum(), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-2, rtol=2e-2)
