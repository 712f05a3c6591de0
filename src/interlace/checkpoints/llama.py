"""Llama: optional biases everywhere, no norm of queries and keys. Source: arXiv:2302.13971, arXiv:2407.21783."""

from .naming import LlamaLike

FAMILY = LlamaLike("llama", dense={"llama": "LlamaForCausalLM"}, mlp_bias=True, windows=False)
