"""SDAR: block diffusion with the weights and names of Qwen3 and Qwen3-MoE. Source: arXiv:2510.06303.

Released folders differ in what they say: ``block_size`` is 4 unless config.json or the name (``...-b16``) says
otherwise, and the mask token may stand in the tokenizer's files alone.

Engines that serve it do not read all of that (DLLM_PARAMS in SGLang's dllm/config.py, SDARModelConfigBuilder in
LMDeploy): where the folder differs from what is written in their code, ``remarks`` says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..nn.config import TransformerConfig
from .config_class import ConfigClass
from .naming import LlamaLike

if TYPE_CHECKING:
    from .format import Checkpoint


_BLOCK, _MASK = 4, 151669
_FIELDS = {"block_size": _BLOCK, "mask_token_id": _MASK}


@dataclass(frozen=True)
class SDAR(LlamaLike):
    """Qwen3's names; a block size and a mask token."""

    def default_block_size(self, config: TransformerConfig, name: str) -> int:
        """4, or 16 in the folder ``SDAR-8B-Chat-b16``."""
        named = re.search(r"-b(\d+)(?![\w.])", name)
        return int(named[1]) if named else _BLOCK

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        return {**super().write_config(checkpoint), "block_size": checkpoint.block_size or _BLOCK}

    def remarks(self, checkpoint: Checkpoint) -> list[str]:
        size, mask, odd = checkpoint.block_size or _BLOCK, checkpoint.mask_token_id, []
        if size != _BLOCK:
            odd.append(f"blocks of {size} (SGLang: {_BLOCK})")
        if mask != _MASK:
            odd.append(f"mask token {mask} (SGLang, LMDeploy: {_MASK})")
        if not odd:
            return []
        return [
            f"{' and '.join(odd)}: versions of these engines go by a number of their own, whatever config.json says; "
            "correct it there"
        ]


FAMILY = SDAR(
    "sdar",
    dense={"sdar": "SDARForCausalLM"},
    sparse={"sdar_moe": "SDARMoeForCausalLM"},
    qk_norm=True,
    head_dim=128,
    masked=True,
    config_classes={
        "sdar": ConfigClass("configuration_sdar", "SDARConfig", "Qwen3Config", _FIELDS),
        "sdar_moe": ConfigClass("configuration_sdar_moe", "SDARMoeConfig", "Qwen3MoeConfig", _FIELDS),
    },
)
