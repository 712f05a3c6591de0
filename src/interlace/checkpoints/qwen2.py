"""Qwen2 and Qwen2.5: query, key and value have a bias, always. Source: arXiv:2407.10671."""

from .naming import LlamaLike

FAMILY = LlamaLike("qwen2", dense={"qwen2": "Qwen2ForCausalLM"}, qkv_bias=True, out_bias=False)
