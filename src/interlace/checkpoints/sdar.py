"""SDAR: block diffusion with the weights and names of Qwen3 and Qwen3-MoE. Source: arXiv:2510.06303.

Released folders differ in what they say: ``block_size`` is 4 unless config.json or the name (``...-b16``) says
otherwise, and the mask token may stand in the tokenizer's files alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..nn.config import TransformerConfig
from .naming import LlamaLike

if TYPE_CHECKING:
    from .format import Checkpoint


@dataclass(frozen=True)
class SDAR(LlamaLike):
    """Qwen3's names; a block size, a mask token, and the classes that open it in ``transformers``."""

    def default_block_size(self, config: TransformerConfig, name: str) -> int:
        """4, or 16 in the folder ``SDAR-8B-Chat-b16``."""
        named = re.search(r"-b(\d+)(?![\w.])", name)
        return int(named[1]) if named else 4

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        out = super().write_config(checkpoint)
        module, (architecture,) = out["model_type"], out["architectures"]
        stem = architecture.removesuffix("ForCausalLM")
        classes = {
            "AutoConfig": f"configuration_{module}.{stem}Config",
            "AutoModel": f"modeling_{module}.{stem}Model",
            "AutoModelForCausalLM": f"modeling_{module}.{architecture}",
        }
        return {**out, "auto_map": classes, "block_size": checkpoint.block_size or 4}


FAMILY = SDAR(
    "sdar",
    dense={"sdar": "SDARForCausalLM"},
    sparse={"sdar_moe": "SDARMoeForCausalLM"},
    qk_norm=True,
    head_dim=128,
    masked=True,
)
