"""The network: one transformer of plain PyTorch. It knows nothing of loops, schedules or formats."""

from .config import MoE, TransformerConfig
from .transformer import Transformer

__all__ = ["MoE", "Transformer", "TransformerConfig"]
