"""Dream: the weights and names of Qwen2.5, and a mask token. Source: arXiv:2508.15487."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .naming import LlamaLike

if TYPE_CHECKING:
    from .format import Checkpoint


@dataclass(frozen=True)
class Dream(LlamaLike):
    """Qwen2's names, and the classes that open it in ``transformers``."""

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        classes = {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"}
        return {**super().write_config(checkpoint), "auto_map": classes}


FAMILY = Dream("dream", dense={"Dream": "DreamModel"}, qkv_bias=True, out_bias=False, masked=True, free_mask=151666)
