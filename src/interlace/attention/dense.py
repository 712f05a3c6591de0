"""Attention under a dense mask, by the fused kernel of PyTorch (SDPA)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["attend_dense"]


def attend_dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v where the mask allows; q [rows, heads, n, d], k and v [rows, kv_heads, m, d].

    ``mask`` is boolean and broadcasts to [rows, heads, n, m]; None: everything is visible.
    """
    rows, heads, n, d = q.shape
    shared = heads // k.shape[1]
    if shared == 1 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=shared > 1)
    # The CPU kernel has no grouped form: the heads that share a key become extra queries of it, nothing is copied.
    q = q.reshape(rows, heads // shared, shared * n, d)
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], n, -1)
        if mask.dim() > 2 and mask.shape[-3] > 1:
            mask = mask.reshape(*mask.shape[:-3], heads // shared, shared * n, -1)
        else:
            mask = mask.repeat(1, 1, shared, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).view(rows, heads, n, d)
