"""Attention over the occupied tiles of a mask is attention under the mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention import tiles
from interlace.attention.kernels import attend, make_mask
from interlace.attention.patterns import Bidirectional, BlockCausal, Causal, Pattern, Tags, TwoCopy
from interlace.attention.tiles import TILE, Tiles, cut

N = 22
PATTERNS = [Causal(), Bidirectional(), BlockCausal(), TwoCopy(), TwoCopy(Causal())]


def twice(once: Tags) -> Tags:
    pairs = zip(once, once._replace(copy=torch.zeros_like(once.copy)), strict=True)
    return Tags(*(torch.cat(pair, 1) for pair in pairs))


def rows(n: int = N, document: int = 8) -> Tags:
    """Two rows, each a noisy and a clean copy; one holds one document, the other three and two tokens of padding."""
    index = torch.arange(n)
    short = torch.stack((index // document, index % document))
    documents = torch.stack((torch.zeros_like(index), short[0].masked_fill(index >= n - 2, -1)))
    once = Tags(torch.stack((index, short[1])), torch.stack((index, short[1])) // 2, documents, torch.ones(2, n).long())
    return twice(once)


def results(
    mask: Any,
    dtype: torch.dtype,
    heads: int = 6,
    shared: int = 3,
    n: int = 2 * N,
    function: Callable[..., Any] = attend,
) -> list[Tensor]:
    """The attention and the gradients of queries, keys and values. The layout in memory is that of a projection."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, n, count, 8) for count in (heads, heads // shared, heads // shared)]
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    seen = function(*(t.transpose(1, 2) for t in leaves), mask)
    towards = torch.randn(seen.shape, generator=generator, dtype=torch.float64).to(dtype)
    return [seen.detach(), *torch.autograd.grad(seen, leaves, towards)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [4, 7, 64])
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_tiles_equal_the_whole_mask(pattern: Pattern, size: int, dtype: torch.dtype) -> None:
    mask = make_mask(pattern, rows(), "dense")
    assert isinstance(mask, Tensor)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    for one, other in zip(results(cut(mask, size), dtype), results(mask, dtype), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("heads", "shared"), [(1, 1), (4, 1), (4, 2), (4, 4)])
def test_heads_share_keys_as_elsewhere(heads: int, shared: int) -> None:
    mask = torch.rand(2, 1, N, N, generator=torch.Generator().manual_seed(0)) < 0.2
    mask.diagonal(dim1=-2, dim2=-1).fill_(True)
    for one, other in zip(*(results(m, torch.float64, heads, shared, N) for m in (cut(mask, 4), mask)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_gradients_are_those_of_differences() -> None:
    mask = cut(torch.ones(1, 1, 6, 6, dtype=torch.bool).tril(), 2)
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(1, h, 6, 2, generator=generator, dtype=torch.float64, requires_grad=True) for h in (2, 1, 1)]
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, mask), leaves)


def test_only_occupied_tiles_are_kept() -> None:
    """Two tiles a copy: noisy -> own tile and the clean past, clean -> clean past; the union over rows."""
    index = torch.arange(8)[None]
    once = Tags(index, index // 2, torch.zeros_like(index), torch.ones_like(index))
    mask = make_mask(TwoCopy(), twice(once), "dense")
    assert isinstance(mask, Tensor)
    assert cut(mask, 4).occupied.int().tolist() == [[1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 1, 1]]
    eye = torch.eye(6, dtype=torch.bool)[None, None]
    corner = torch.zeros_like(eye)
    corner[..., 0, 5] = True
    assert cut(torch.cat((eye, eye | corner)), 4).occupied.int().tolist() == [[1, 1], [0, 1]]
    assert cut(eye, 4).occupied.int().tolist() == [[1, 0], [0, 1]]


def test_long_rows_on_a_cpu_are_tiled() -> None:
    assert isinstance(make_mask(Causal(), rows(2 * TILE)), Tiles)
    assert isinstance(make_mask(Causal(), rows(2 * TILE - 1)), Tensor)
    assert isinstance(make_mask(Causal(), rows(), "tiles"), Tiles)


def test_autocast_decides_the_precision() -> None:
    mask = make_mask(TwoCopy(), rows(), "tiles")
    with torch.autocast("cpu", torch.bfloat16):
        seen, *grads = results(mask, torch.float32)
    assert seen.dtype == torch.bfloat16 and all(g.dtype == torch.float32 for g in grads)
    torch.testing.assert_close(seen.float(), results(mask, torch.float32)[0], atol=3e-2, rtol=3e-2)


def test_the_operators_keep_their_contract() -> None:
    mask = make_mask(TwoCopy(), rows(), "tiles")
    q, k, v = (torch.randn(2, heads, 2 * N, 8, requires_grad=True) for heads in (2, 1, 1))
    assert isinstance(mask, Tiles)
    checked = torch.library.opcheck(tiles._forward, (q, k, v, *mask))
    assert set(checked.values()) == {"SUCCESS"}


def test_a_compiled_network_meets_one_graph() -> None:
    """Whatever the tiles: the operators are called as they are."""
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(attend, backend=backend, fullgraph=True, dynamic=False)
    for document in (4, 8, N):
        mask = cut(make_mask(TwoCopy(), rows(document=document), "dense"), 4)  # type: ignore[arg-type]
        for one, other in zip(
            results(mask, torch.float32, function=compiled), results(mask, torch.float32), strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
    assert len(graphs) == 1
