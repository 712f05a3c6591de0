"""Dream: the weights and names of Qwen2.5, and a mask token. Source: arXiv:2508.15487."""

from .config_class import ConfigClass
from .naming import LlamaLike

FAMILY = LlamaLike(
    "dream",
    dense={"Dream": "DreamModel"},
    qkv_bias=True,
    out_bias=False,
    masked=True,
    free_mask=151666,
    config_classes={
        "Dream": ConfigClass("configuration_dream", "DreamConfig", "Qwen2Config", {"mask_token_id": 151666})
    },
)
