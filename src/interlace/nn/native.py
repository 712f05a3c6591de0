"""The same function as ``Transformer``, compiled: a few tokens through the blocks of a text model on a processor.

What lies between two attentions is one call (native.cpp). A step of few tokens is a few calls in place of a
hundred small operators; and every product is summed in an order that does not depend on the number of tokens. Weights
are float32, bfloat16, or int8 with a scale for every output. A processor with AVX-512 BF16 multiplies bfloat16 as it
is.
The memory, the masks and attention itself stay where they are. Without a C++ compiler everything runs as plain PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..attention import paged
from ..attention.kernels import attend
from ..attention.paged import Pages
from ..compiled import compiled
from ..hardware import fast_bfloat16
from .transformer import MLP, Attention, Block, RMSNorm, Transformer

if TYPE_CHECKING:
    from ..memory.protocol import Memory

__all__ = ["MOST", "TILE", "Native", "accelerated", "library"]

MOST = 128
"""Tokens of a call up to which the compiled blocks run: beyond, a library for large matrices is faster. In bfloat16
on a processor without instructions for it they run up to 32 times as many."""

NARROW = 256
"""Channels below which they run more tokens in proportion: there the operators cost more than what they compute."""

TILE = 96
"""Tokens that pass all weights at once: what a core keeps near. Their number changes no bit."""

_TYPES = {torch.float32: 0, torch.bfloat16: 1}
_POINTERS = (
    "attention_norm", "qkv", "qkv_bias", "q_norm", "k_norm", "out", "out_bias",
    "mlp_norm", "up", "up_bias", "down", "down_bias", "qkv_scale", "out_scale", "up_scale", "down_scale",
)  # fmt: skip
_SIZES = ("hidden", "heads", "kv_heads", "head_dim", "intermediate")
_COUNTS = ("rows", "n", "turns", "tile")
_PLACES = ("x", "normed", "wide", "act", "seen", "q", "k", "v", "cosine", "sine")


# The structures of native.cpp, field by field.
class _Block(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _POINTERS]


class _Shape(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int64) for name in _SIZES), ("eps", ctypes.c_float)]


class _Call(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int64) for name in _COUNTS), *((name, ctypes.c_void_p) for name in _PLACES)]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled source, or None without a compiler, or with ``INTERLACE_NATIVE=0`` in the environment."""
    found = compiled(Path(__file__).with_name("native.cpp"))
    if found is None:
        return None
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    found.interlace_step.argtypes = [number, number, pointer, pointer, pointer, pointer, number]
    found.interlace_norm.argtypes = [number, pointer, pointer, ctypes.c_float, size, size, pointer, pointer]
    found.interlace_linear.argtypes = [number, *[pointer] * 4, *[size] * 4, pointer, number]
    for function in (found.interlace_step, found.interlace_norm, found.interlace_linear):
        function.restype = None
    return found


def accelerated(network: Any, invariant: bool = False) -> Any:
    """``network``, or a ``Native`` around it where that computes the same: a plain text transformer on a processor.

    ``invariant``: calls of any number of tokens run compiled, so that a token gives the same to the bit beside any
    others; without it large ones go to the network, which is faster.

    Not for one that was compiled, that anyone watches by hooks, or whose layers were replaced (LoRA); those run as
    they are. The weights are read where they lie: make it anew when they have been moved.
    """
    if not _plain(network) or library() is None:
        return network
    return Native(network, invariant)


def _plain(network: Any) -> bool:
    """Whether the compiled blocks know everything that this network does."""
    if type(network) is not Transformer:
        return False
    config, weight = network.config, network.output.weight
    ours = (nn.Linear, nn.Embedding, nn.ModuleList, Transformer, Block, Attention, MLP, RMSNorm)
    return (
        weight.device.type == "cpu"
        and weight.dtype in _TYPES
        and config.vocab_size > 0
        and not config.levels
        and config.moe is None
        and config.gated_mlp
        and len(config.rope.segments(config.head_dim)) == 1
        and network._compiled_call_impl is None
        and all(_untouched(module, ours) for module in network.modules())
        and len({_eight_bits(matrix) is None for block in network.blocks for matrix in _matrices(block)}) == 1
        and all(_simple(parameter, weight) for parameter in network.parameters())
    )


def _untouched(module: nn.Module, ours: tuple[type, ...]) -> bool:
    """No hooks, no method replaced, and a class of ours or of PyTorch's own layers."""
    replaced = {"forward", "head", "rotation"} & vars(module).keys()
    return not (replaced or module._forward_hooks or module._forward_pre_hooks) and type(module) in ours


def _simple(parameter: Tensor, like: Tensor) -> bool:
    """Numbers in a row, where the pointer says: not sharded, not on a GPU, not quantised but as we do it."""
    same = parameter.dtype == like.dtype and parameter.device == like.device
    if _eight_bits(parameter) is not None:
        return same
    return same and type(parameter) is nn.Parameter and parameter.is_contiguous()


def _eight_bits(weight: Any) -> tuple[Tensor, Tensor] | None:
    """q int8 [out, in] and scales float32 [out] of torchao's ``w = scale * q``; None for other weights."""
    if type(weight).__name__ != "Int8Tensor":  # told by its name: torchao is optional, and slow to import
        return None
    q, scale = getattr(weight, "qdata", None), getattr(weight, "scale", None)
    moved, other = getattr(weight, "zero_point", None), ("act_quant_kwargs", "act_pre_scale")
    known = (
        isinstance(q, Tensor)
        and isinstance(scale, Tensor)
        and (q.dtype, scale.dtype) == (torch.int8, torch.float32)
        and q.shape == weight.shape
        and scale.shape == (len(q), 1)
        and q.is_contiguous()
        and scale.is_contiguous()
        and (moved is None or not moved.any())
        and all(getattr(weight, name, None) is None for name in other)
    )
    return (q, scale) if known else None  # type: ignore[return-value]


def _matrices(block: Any) -> list[Any]:
    """The weights of a block that may be int8, in the order of their scales."""
    return [block.attention.qkv.weight, block.attention.out.weight, block.mlp.up.weight, block.mlp.down.weight]


class Native:
    """A text ``Transformer`` with compiled blocks; takes its place in the loop, for inference.

    Called as the network is, with the same result up to rounding (float32: about 1e-6; bfloat16 closer to float32 than
    the operators of PyTorch, because sums and the residual stream stay float32). Calls that record gradients go to the
    network itself, and so do, unless it is ``invariant``, those of more than ``most`` tokens; but never because of
    their number those of packed rows (``Pages``), whose results must not depend on how many share a forward.

    >>> from interlace.nn import TransformerConfig
    >>> shape = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8}
    >>> net = Transformer(TransformerConfig(vocab_size=32, intermediate_size=32, **shape))
    >>> ids = torch.arange(4)[None]
    >>> with torch.no_grad():
    ...     torch.allclose(accelerated(net)(ids, ids), net(ids, ids), atol=1e-5)
    True
    """

    def __init__(self, network: Transformer, invariant: bool = False) -> None:
        found = library()
        assert found is not None
        self.network, self.config, self.library = network, network.config, found
        config = network.config
        self.kind = _TYPES[network.output.weight.dtype]
        self.dtype = network.output.weight.dtype
        # what the pointers point to stays alive
        self.held = [part for one in network.parameters() for part in _eight_bits(one) or [one.detach()]]
        self.is_int8 = int(len(network.blocks) > 0 and _eight_bits(_matrices(network.blocks[0])[0]) is not None)
        self.output = _eight_bits(network.output.weight) or (network.output.weight.detach(), None)
        self.shape = _Shape(
            config.hidden_size,
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
            config.intermediate_size,
            config.norm_eps,
        )
        self.blocks = [_Block(*map(_pointer, _parts(block))) for block in network.blocks]
        self.at_shape = ctypes.addressof(self.shape)
        self.at_blocks = [ctypes.addressof(block) for block in self.blocks]
        self.width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        self.most: float = MOST * max(1, NARROW // config.hidden_size)
        if self.kind and not fast_bfloat16("cpu"):
            self.most = max(self.most, 32 * MOST)
        if invariant:
            self.most = math.inf
            paged.library()  # compiled now, not in the first request
        self.tile = TILE
        self.scratch = [torch.empty(TILE, size) for size in (config.hidden_size, self.width, config.intermediate_size)]

    def __call__(
        self,
        content: Tensor,
        positions: Tensor,
        mask: Any = None,
        memory: Memory | None = None,
        slots: Tensor | None = None,
        **told: Any,
    ) -> Tensor:
        rows, n = content.shape
        many = rows * n > self.most and not isinstance(mask, Pages)
        if many or told or torch.is_grad_enabled():
            return self.network(content, positions, mask, memory, slots, **told)
        network, config, shape, kind = self.network, self.config, self.at_shape, self.kind
        step = functools.partial(self.library.interlace_step, kind, self.is_int8, shape)
        threads = torch.get_num_threads()
        x = network.embed(content).float()
        cosine, sine = (turn.contiguous() for turn in network.rotation(positions, self.dtype))
        normed, wide, act = self.scratch
        q = torch.empty(rows, config.num_heads, n, config.head_dim, dtype=self.dtype)
        k, v = torch.empty(2, rows, config.num_kv_heads, n, config.head_dim, dtype=self.dtype).unbind(0)
        call = _Call(
            rows, n, cosine.shape[0], self.tile, x.data_ptr(), normed.data_ptr(), wide.data_ptr(), act.data_ptr(), None,
            q.data_ptr(), k.data_ptr(), v.data_ptr(), cosine.data_ptr(), sine.data_ptr(),
        )  # fmt: skip
        at, done = ctypes.addressof(call), None
        for layer, block in enumerate(self.at_blocks):
            step(done, block, at, threads)
            keys, values = (k, v) if memory is None or slots is None else memory.write(layer, k, v, slots)
            seen = attend(q, keys, values, mask).contiguous()
            call.seen = seen.data_ptr()
            done = block
        step(done, None, at, threads)
        out = torch.empty(rows, n, config.hidden_size, dtype=self.dtype)
        self.library.interlace_norm(
            kind, x.data_ptr(), network.norm.weight.data_ptr(), config.norm_eps, config.hidden_size, rows * n,
            normed.data_ptr(), out.data_ptr(),
        )  # fmt: skip
        return out

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocab_size]."""
        weight, scale = self.output
        size = hidden.shape[-1]
        m = hidden.numel() // size
        if not 0 < m <= self.most or torch.is_grad_enabled() or hidden.dtype != self.dtype:
            return self.network.head(hidden)
        hidden = hidden.contiguous()
        out = torch.empty(*hidden.shape[:-1], len(weight), dtype=self.dtype)
        self.library.interlace_linear(
            self.kind, weight.data_ptr(), _pointer(scale), hidden.data_ptr(), self.scratch[0].data_ptr(),
            m, self.tile, size, len(weight), out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out


def _parts(block: Any) -> list[Any]:
    """The weights of a block in the order of ``_POINTERS``."""
    attention, mlp = block.attention, block.mlp
    assert isinstance(mlp, MLP)
    heads = [None if one is None else one.weight for one in (attention.q_norm, attention.k_norm)]
    pairs = [_eight_bits(matrix) or (matrix, None) for matrix in _matrices(block)]
    (qkv, out, up, down), scales = zip(*pairs, strict=True)
    return [
        block.attention_norm.weight, qkv, attention.qkv.bias, *heads, out, attention.out.bias,
        block.mlp_norm.weight, up, mlp.up.bias, down, mlp.down.bias, *scales,
    ]  # fmt: skip


def _pointer(weight: Tensor | None) -> int | None:
    return None if weight is None else weight.data_ptr()
