"""Weights in fewer bits, for memory and bandwidth."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from .errors import SettingError
from .nn.moe import MoEMLP

__all__ = ["KINDS", "quantize"]

KINDS = ("int8",)


def quantize(network: Any, kind: str) -> None:
    """Store the weights of all linear layers as ``w ~ scale * q``, q in int8 and one scale an output; in place.

    Computation stays in the dtype of the activations (weight-only). A quarter of the memory of float32, half of
    bfloat16; norms and embeddings stay as they are. For inference: such a network is neither trained nor saved. On a
    processor it runs in the compiled blocks, which sum ``q . x`` in float32 and multiply that by the scale: a row in a
    batch is what it is alone, to the bit. Without them it runs by torchao's product, and that is so up to rounding.

    Args:
        network: a ``Transformer``. kind: "int8".

    By torchao (``pip install 'interlace[int8]'``). Raises ``SettingError`` for another kind, without torchao, and for a
    network of experts, whose weights are no linear layers.

    >>> from interlace.nn import Transformer, TransformerConfig
    >>> shape = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8}
    >>> quantize(Transformer(TransformerConfig(vocab_size=32, intermediate_size=32, **shape)), "int8") # doctest: +SKIP
    """
    if kind not in KINDS:
        raise SettingError(f"unknown quantisation {kind!r}; known: {', '.join(KINDS)}")
    if any(isinstance(module, MoEMLP) for module in network.modules()):
        raise SettingError("the weights of experts cannot be quantised; leave --quantize out, or pass --dtype bfloat16")
    logging.disable(logging.WARNING)  # at its import it tells of kernels for other hardware
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise SettingError(f"int8 needs torchao ({error}); install it: pip install 'interlace[int8]'") from None
    finally:
        logging.disable(logging.NOTSET)
    quantize_(network, Int8WeightOnlyConfig(), lambda module, _: isinstance(module, nn.Linear))
    network.requires_grad_(False)
