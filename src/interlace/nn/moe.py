"""A mixture of experts in place of the MLP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import TransformerConfig

__all__ = ["MoEMLP"]


class MoEMLP(nn.Module):
    """Every token goes through the ``per_token`` experts that the router ranks highest.

    w = softmax(router x) in float32, the chosen ones renormalised if the config says so; y = sum_e w_e MLP_e(x).
    expert_up [experts, 2 * intermediate, hidden] holds gate and up; expert_down [experts, hidden, intermediate].
    Source: Qwen3 (arXiv:2505.09388).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        moe = config.moe
        assert moe is not None
        self.moe = moe
        self.router = nn.Linear(config.hidden_size, moe.experts, bias=False)
        self.expert_up = nn.Parameter(torch.empty(moe.experts, 2 * moe.intermediate_size, config.hidden_size))
        self.expert_down = nn.Parameter(torch.empty(moe.experts, config.hidden_size, moe.intermediate_size))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weight, chosen = self.router(flat).float().softmax(-1).topk(self.moe.per_token, -1)
        if self.moe.normalise:
            weight = weight / weight.sum(-1, keepdim=True)
        weight = weight.to(x.dtype)
        out = torch.zeros_like(flat)
        # expert by expert over the tokens that chose it: the sum runs in expert order, whatever the batch
        for expert in torch.unique(chosen).tolist():
            token, rank = (chosen == expert).nonzero(as_tuple=True)
            gate, up = F.linear(flat[token], self.expert_up[expert]).chunk(2, -1)
            y = F.linear(F.silu(gate) * up, self.expert_down[expert])
            out.index_add_(0, token, y * weight[token, rank].unsqueeze(-1))
        return out.view_as(x)
