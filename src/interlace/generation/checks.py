"""What cannot be generated, said before the first forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import SettingError
from .events import OPEN

if TYPE_CHECKING:
    from ..layouts import Layout
    from ..nn import TransformerConfig
    from ..processes import Process

__all__ = ["check", "fit"]


def fit(process: Process, layout: Layout, config: TransformerConfig, hides: bool = False) -> None:
    """Refuse parts that do not fit each other, and say why. hides: whether a guide masks what was known."""
    if (process.noise == "normal") != (config.features > 0):
        reads, makes = ("features", "tokens") if config.features else ("tokens", "features")
        raise SettingError(f"the network reads {reads}, but the process makes {makes}; use a process of {reads}")
    if layout.axes != config.rope.axes:
        raise SettingError(
            f"the layout gives {layout.axes} coordinates a token, the network's positions have {config.rope.axes}; "
            "use the layout that the network was trained with"
        )
    if not process.feeds_draft and layout.size > 1:
        raise SettingError(f"next-token generation knows units of one token, not of {layout.size}; use Blocks(1)")
    if hides and getattr(process, "mask_id", None) is None:
        raise SettingError(
            f"this guidance masks the prompt, and {type(process).__name__} has no mask; leave it out, or use a process "
            "of masks"
        )
    mask_id = getattr(process, "mask_id", 0)
    if config.vocab_size and not 0 <= mask_id < config.vocab_size:
        raise SettingError(f"mask_id is {mask_id}, the vocabulary has {config.vocab_size}; pass the mask token's id")


def check(
    number: int,
    prompt: Tensor,
    length: int,
    process: Process,
    config: TransformerConfig,
    layout: Layout,
    fills: bool,
) -> None:
    """Refuse a row that cannot be generated, and say why."""
    if length < 0:
        raise SettingError(f"the length is {length}; pass 0 or more")
    shape = (len(prompt), config.features) if config.features else (len(prompt),)
    if prompt.shape != shape:
        raise SettingError(f"row {number}: the prompt is {list(prompt.shape)}; pass {list(shape)}")
    if config.features and len(prompt) % layout.size:
        raise SettingError(
            f"row {number}: a prompt of {len(prompt)} tokens ends inside a unit; pass whole units of {layout.size}"
        )
    total = layout.units(len(prompt) + length) * layout.size
    if layout.axes == 1 and total > config.max_positions:
        raise SettingError(
            f"row {number}: {len(prompt)} prompt tokens and {length} new ones, in blocks of {layout.size}, exceed the "
            f"model's {config.max_positions} positions; shorten the prompt or the length"
        )
    if process.shift and length and not len(prompt):
        raise SettingError(f"row {number}: the prompt is empty; next-token generation needs at least one token")
    if config.vocab_size and len(prompt):
        low, high = int(prompt.min()), int(prompt.max())
        if low < OPEN or high >= config.vocab_size:
            wrong = low if low < OPEN else high
            raise SettingError(
                f"row {number}: token id {wrong} is outside the vocabulary of {config.vocab_size}; "
                "is it from another tokenizer?"
            )
        if not fills and bool((prompt == OPEN).any()):
            raise SettingError(
                f"row {number}: next-token generation cannot infill; use a diffusion model, or leave the gap at the end"
            )
        if process.shift and int(prompt[0]) == OPEN:
            raise SettingError(
                f"row {number}: the first token is open, but this model predicts a token at the one before it; give it"
            )
