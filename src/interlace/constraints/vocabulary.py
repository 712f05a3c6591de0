"""What the tokens of a tokenizer spell, in bytes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import SettingError

__all__ = ["Vocabulary", "vocabulary"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """words[i]: the bytes of the token i; none where it stands in no text (special tokens, the mask)."""

    words: tuple[bytes, ...]


_lock = threading.Lock()
_known: WeakKeyDictionary[Any, dict[Any, Vocabulary]] = WeakKeyDictionary()


def vocabulary(tokenizer: Any, size: int, without: Collection[int] = ()) -> Vocabulary:
    """The first ``size`` tokens of a ``tokenizers.Tokenizer``; added tokens and those in ``without`` spell nothing.

    Known are byte-level vocabularies, those with bytes to fall back on (``<0x0A>``, a space written as U+2581), and
    those of plain characters. Raises ``SettingError`` for any other.
    """
    key = (size, frozenset(without), tokenizer.get_vocab_size())
    with _lock:  # one for all: what is worked out over a vocabulary is found by it
        kept = _known.setdefault(tokenizer, {})
        if key not in kept:
            kept[key] = _made(tokenizer, size, without)
        return kept[key]


def _made(tokenizer: Any, size: int, without: Collection[int]) -> Vocabulary:
    decoder = tokenizer.decoder
    steps = _flat(json.loads(decoder.__getstate__())) if decoder is not None else []
    kinds = {str(step["type"]) for step in steps}
    if not kinds or not kinds <= {"ByteLevel", "ByteFallback", "Fuse", "Replace", "Strip", "Metaspace"}:
        raise SettingError(
            f"a constraint needs to know what bytes a token spells, which a tokenizer that decodes by "
            f"{', '.join(sorted(kinds)) or 'nothing'} does not say; use a model with a byte-level tokenizer"
        )
    silent = {*tokenizer.get_added_tokens_decoder(), *without}
    words = [b""] * size
    alphabet = _byte_level() if "ByteLevel" in kinds else {}
    for text, token in tokenizer.get_vocab().items():
        if token < size and token not in silent:
            words[token] = _spelt(text, steps, alphabet)
    return Vocabulary(tuple(words))


def _spelt(text: str, steps: list[dict[str, Any]], alphabet: dict[str, int]) -> bytes:
    """The bytes of a token, from how the vocabulary writes it."""
    for step in steps:
        if step["type"] == "ByteLevel":
            return bytes(alphabet[one] for one in text) if all(one in alphabet for one in text) else text.encode()
        if step["type"] == "ByteFallback" and re.fullmatch("<0x[0-9A-F]{2}>", text):
            return bytes([int(text[3:5], 16)])
        if step["type"] == "Replace" and "String" in step["pattern"]:
            text = text.replace(step["pattern"]["String"], step["content"])
        if step["type"] == "Metaspace":
            text = text.replace(step.get("replacement", "\u2581"), " ")
    return text.encode()


def _flat(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a decoder, in order."""
    inner = decoder["decoders"] if decoder["type"] == "Sequence" else None
    return [decoder] if inner is None else [step for each in inner for step in _flat(each)]


def _byte_level() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for: what can be seen stands for itself."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
