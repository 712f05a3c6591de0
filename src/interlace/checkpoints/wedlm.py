"""WeDLM: the weights and names of Qwen2.5 or Qwen3; config.json says which of the two. Source: arXiv:2512.22737.

The published folders name neither a block size nor a mask token: the first matters in training alone, the second is
151665.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..nn.config import TransformerConfig
from .config_class import ConfigClass
from .fields import Fields
from .naming import LlamaLike

if TYPE_CHECKING:
    from .format import Checkpoint


@dataclass(frozen=True)
class WeDLM(LlamaLike):
    """A norm of queries and keys (``qk_norm``) or biases of query, key and value (``attention_bias``), as it says."""

    def read_config(self, fields: Fields) -> TransformerConfig:
        norm = fields.take("qk_norm", bool, False)
        if fields.get("attention_bias") is None:
            fields["attention_bias"] = True  # as its own class of config.json fills it in
        return replace(super().read_config(fields), qk_norm=norm)

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        layers = ["full_attention"] * checkpoint.config.num_layers
        norm = checkpoint.config.qk_norm
        return {**super().write_config(checkpoint), "layer_types": layers, "qk_norm": norm}


FAMILY = WeDLM(
    "wedlm",
    dense={"wedlm": "WeDLMForCausalLM"},
    out_bias=False,
    masked=True,
    free_mask=151665,
    config_classes={
        "wedlm": ConfigClass(
            "configuration_wedlm", "WeDLMConfig", "Qwen3Config", {"qk_norm": False, "mask_token_id": 151665}
        )
    },
)
