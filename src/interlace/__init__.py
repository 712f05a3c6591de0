"""Interlace: models that generate by interlacing autoregression and diffusion.

A sample is a row of units, each with a noise level; to generate is to walk over that grid. ``interlace.load`` opens a
model, ``interlace.generate`` is the one loop, ``interlace.systems`` lists the published systems as choices of parts.
Names are imported when they are first used, so that ``import interlace`` is instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Checkpoint": "checkpoints",
    "Event": "generation",
    "InterlaceError": "errors",
    "Model": "model",
    "Result": "generation",
    "Transformer": "nn",
    "TransformerConfig": "nn",
    "collect": "generation",
    "generate": "generation",
    "load": "model",
    "save": "checkpoints",
}

if TYPE_CHECKING:
    from .checkpoints import Checkpoint, save
    from .errors import InterlaceError
    from .generation import Event, Result, collect, generate
    from .model import Model, load
    from .nn import Transformer, TransformerConfig

__all__ = [
    "Checkpoint",
    "Event",
    "InterlaceError",
    "Model",
    "Result",
    "Transformer",
    "TransformerConfig",
    "collect",
    "generate",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
