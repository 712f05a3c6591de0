"""Qwen3-MoE: Qwen3 with experts in place of (some of) the MLPs. Source: arXiv:2505.09388."""

from .naming import LlamaLike

FAMILY = LlamaLike("qwen3_moe", sparse={"qwen3_moe": "Qwen3MoeForCausalLM"}, qk_norm=True)
