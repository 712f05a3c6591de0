"""Fast-dLLM v2: the weights and names of Qwen2.5, and a block size. Source: arXiv:2509.26328.

The published folders name no mask token: it is ``|<MASK>|``, in a row of the embedding that Qwen2.5 leaves free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..nn.config import TransformerConfig
from .config_class import ConfigClass
from .naming import LlamaLike

if TYPE_CHECKING:
    from .format import Checkpoint


@dataclass(frozen=True)
class FastDLLM(LlamaLike):
    """Qwen2's names; the block size is called ``bd_size``."""

    def default_block_size(self, config: TransformerConfig, name: str) -> int:
        return 32

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        layers = ["full_attention"] * checkpoint.config.num_layers
        size = checkpoint.block_size or 32
        return {**super().write_config(checkpoint), "layer_types": layers, "bd_size": size}


FAMILY = FastDLLM(
    "fast_dllm_v2",
    dense={"Fast_dLLM_Qwen": "Fast_dLLM_QwenForCausalLM"},
    qkv_bias=True,
    out_bias=False,
    masked=True,
    block_field="bd_size",
    free_mask=151665,
    config_classes={
        "Fast_dLLM_Qwen": ConfigClass(
            "configuration", "Fast_dLLM_QwenConfig", "Qwen2Config", {"bd_size": 32, "mask_token_id": 151665}
        )
    },
)
