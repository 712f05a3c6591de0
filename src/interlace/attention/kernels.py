"""How attention is computed: SDPA with a dense mask anywhere, FlexAttention with a block mask on CUDA, tiles on a CPU,
and pages of a pool of keys.

All take the same predicate. FlexAttention skips the blocks that a pattern leaves empty, which halves the work of a
two-copy row; it has no backward pass on a CPU, so there long rows are cut into tiles, and short ones use one mask.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .dense import attend_dense
from .paged import Pages, attend_pages
from .patterns import Pattern, Tags, dense
from .tiles import TILE, Tiles, attend_tiles, cut

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["attend", "make_mask"]


def make_mask(pattern: Pattern, tags: Tags, kernel: str = "auto") -> Tensor | BlockMask | Tiles:
    """The mask of a training row: tags [rows, n] -> a boolean [rows, 1, n, n], as it is or in another kernel's form.

    ``kernel`` is ``"dense"``, ``"flex"``, ``"tiles"`` or ``"auto"``: flex on CUDA, tiles for long rows on a CPU, else
    dense. A padding token sees itself only, so that its softmax is defined.
    """
    device = tags.index.device
    if kernel == "flex" or (kernel == "auto" and device.type == "cuda"):
        from torch.nn.attention.flex_attention import create_block_mask

        rows, n = tags.index.shape

        def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            q, k = tags.at(b, i), tags.at(b, j)
            return (pattern(q, k) & (q.document == k.document) & (q.document >= 0)) | (i == j)

        return create_block_mask(visible, rows, None, n, n, device=str(device))
    mask = dense(pattern, tags)
    n = mask.shape[-1]
    mask |= torch.eye(n, dtype=torch.bool, device=device)
    # of fewer tiles, none or hardly any is empty
    long = device.type == "cpu" and n >= 4 * TILE
    return cut(mask.unsqueeze(1)) if kernel == "tiles" or (kernel == "auto" and long) else mask.unsqueeze(1)


@cache
def _flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if torch.cuda.is_available() else flex_attention


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | BlockMask | Tiles | Pages | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v where the mask allows; q [rows, heads, n, d], k and v [rows, kv_heads, m, d].

    ``mask`` is a boolean tensor that broadcasts to [rows, heads, n, m] (True = may see), a ``BlockMask``,
    ``Tiles``, or ``None``: everything is visible. With ``Pages``, q holds many rows behind each other, and k and v are
    the slots of a pool. Heads of q share the heads of k and v in groups (GQA).
    """
    if isinstance(mask, Tiles):
        return attend_tiles(q, k, v, mask)
    if isinstance(mask, Pages):
        return attend_pages(q, k, v, mask)
    if mask is not None and not isinstance(mask, Tensor):
        return _flex()(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return attend_dense(q, k, v, mask)
