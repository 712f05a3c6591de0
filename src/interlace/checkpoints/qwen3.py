"""Qwen3: a norm of queries and keys, heads of 128 unless said otherwise. Source: arXiv:2505.09388."""

from .naming import LlamaLike

FAMILY = LlamaLike("qwen3", dense={"qwen3": "Qwen3ForCausalLM"}, qk_norm=True, head_dim=128)
