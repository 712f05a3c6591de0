"""Tokenizers: byte-level BPE for code, characters for puzzles, and text that streams out as tokens come in.

Every string has exactly one encoding and comes back from it unchanged, because the alphabet is the 256 bytes. A
line end and the indentation after it form one token (``"\\n        "``), so a small vocabulary does not spend most of a
Python file on spaces. Cut a prompt *before* its line end, therefore: the next token is the line end with indentation.

>>> tokenizer = train_tokenizer(["def f(x):\\n    return x\\n"], vocab_size=300)
>>> decode(tokenizer, encode(tokenizer, "naïve 🙂")) == "naïve 🙂"
True
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlace.errors import DataError, SettingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL_TOKENS = ("<|endoftext|>", "<|MASK|>", "<|im_start|>", "<|im_end|>")
END_ID, MASK_ID, IM_START_ID, IM_END_ID = range(4)
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256

# Alternatives in order of preference. A space before a word, a number or a sign belongs to it, as in GPT-2.
_PIECES = "|".join(
    (
        r"(?:\r?\n)+[ \t]*",  # line ends, and the indentation of the line that follows
        r" ?__\p{L}+__(?![\p{L}\p{N}_])",  # __init__
        r" ?_*[\p{L}\p{M}]+",  # words; snake_case gives snake, _case
        r" ?\p{N}{1,3}",
        r" ?(?:-{4,}|={4,}|#{4,}|\*{4,})",  # rules drawn in comments
        r" ?_+",
        r" ?[^\s\p{L}\p{M}\p{N}_]{1,3}",
        r"[ \t]+(?=[ \t]\S)",  # all but the last of a run of spaces
        r"[ \t]+",
    )
)
_toggling = threading.Lock()


def train_tokenizer(texts: Iterable[str], vocab_size: int, path: str | os.PathLike[str] | None = None) -> Tokenizer:
    """Learn a byte-level BPE vocabulary of at most ``vocab_size`` tokens from ``texts``; the same texts, the same ids.

    The ids start with :data:`SPECIAL_TOKENS` and the 256 bytes. A small text may not hold enough repeated pairs to
    fill the vocabulary. With ``path``, a folder, the tokenizer is saved there by :func:`save_tokenizer`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    if not SMALLEST_VOCABULARY <= vocab_size <= 2**31:
        raise SettingError(f"vocab_size is {vocab_size}; pass {SMALLEST_VOCABULARY} (specials and bytes) or more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.encode_special_tokens = True
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((_utf8(text) for text in texts), trainer)
    if path is not None:
        save_tokenizer(tokenizer, path)
    return tokenizer


def character_tokenizer(alphabet: Iterable[str]) -> Tokenizer:
    """One token per character: :data:`SPECIAL_TOKENS` first, then ``alphabet`` in its order.

    A character outside the alphabet is a :class:`DataError` in :func:`encode`.

    >>> encode(character_tokenizer("0123456789+="), "1+1=2")
    [5, 14, 5, 15, 6]
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    characters = list(alphabet)
    if not characters or len(set(characters)) < len(characters) or any(len(one) != 1 for one in characters):
        raise SettingError("the alphabet is empty or repeats a character; pass every character once")
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.encode_special_tokens = True
    return tokenizer


def backend(tokenizer: Any) -> Tokenizer:
    """The ``tokenizers.Tokenizer`` inside a ``transformers`` tokenizer, or the argument itself."""
    return getattr(tokenizer, "backend_tokenizer", tokenizer)


def encode(tokenizer: Any, text: str, allow_special: bool = False) -> list[int]:
    """Token ids of ``text``; unless ``allow_special``, ``"<|endoftext|>"`` in it is plain text and not the token."""
    return encode_batch(tokenizer, [text], allow_special)[0]


def begin(tokenizer: Any) -> list[int]:
    """What a tokenizer puts before every text: nothing, or a token that begins it (Llama's).

    It is what the post-processor of ``tokenizer.json`` says, and what ``transformers`` goes by:
    ``add_bos_token`` of ``tokenizer_config.json`` counts for nothing beside that file.

    >>> from tokenizers.processors import TemplateProcessing
    >>> tokenizer = character_tokenizer("ab")
    >>> tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 2)])
    >>> begin(tokenizer), begin(character_tokenizer("ab"))
    ([2], [])
    """
    processor = backend(tokenizer).post_processor
    found: list[int] = []
    for step in [] if processor is None else _flat(json.loads(processor.__getstate__())):
        found = _before(step) + found  # each is around what the last one made
    return found


def encode_prompt(tokenizer: Any, text: str) -> list[int]:
    """:func:`encode` of a text from its beginning, behind what the tokenizer puts there (:func:`begin`)."""
    return begin(tokenizer) + encode(tokenizer, text)


def encode_batch(tokenizer: Any, texts: Sequence[str], allow_special: bool = False) -> list[list[int]]:
    """:func:`encode` of many texts at once, in parallel where the machine allows it."""
    texts = [_utf8(text) for text in texts]
    inner = backend(tokenizer)
    with _specials(inner, allow_special):
        try:
            found = inner.encode_batch_fast(texts, add_special_tokens=False)
        except Exception as error:  # the library raises nothing narrower
            if "WordLevel" not in str(error):
                raise
            known = inner.get_vocab()
            odd = next((one for text in texts for one in text if one not in known), "")
            raise DataError(f"{odd!r} is not in the tokenizer's alphabet; remove it from the text") from None
    return [encoding.ids for encoding in found]


def decode(tokenizer: Any, ids: Iterable[int], skip_special: bool = False) -> str:
    """The text of ``ids``; bytes that are not UTF-8 become U+FFFD."""
    return backend(tokenizer).decode([int(index) for index in ids], skip_special_tokens=skip_special)


def save_tokenizer(tokenizer: Tokenizer, directory: str | os.PathLike[str], max_length: int | None = None) -> None:
    """Write the folder that ``transformers.AutoTokenizer.from_pretrained`` reads.

    ``max_length`` is the longest sequence, in tokens, that the model takes.
    """
    end, mask, start, stop = SPECIAL_TOKENS
    named = {"eos_token": end, "pad_token": end, "mask_token": mask, "additional_special_tokens": [start, stop]}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length or 1_000_000_000,
        "clean_up_tokenization_spaces": False,
        **named,
    }
    folder = Path(directory)
    contents = {
        "tokenizer.json": tokenizer.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(named, indent=2) + "\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            temporary = folder / f".{name}.{os.getpid()}"
            try:
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, folder / name)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); pass a folder with space in it") from None


def load_tokenizer(directory: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a folder, or of a ``tokenizer.json``."""
    from tokenizers import Tokenizer

    path = Path(directory)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"{path} is not found; pass a folder with a tokenizer.json in it")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # the library raises nothing narrower
        raise DataError(f"{path} is not a tokenizer that 'tokenizers' reads; write it anew") from None
    tokenizer.encode_special_tokens = True
    return tokenizer


class TextStream:
    """Text out as token ids come in, never with half a character: ``push`` gives only what later ids cannot change.

    All that ``push`` and ``flush`` return, joined, equals ``decode`` of all the ids. Works with any tokenizer, also
    those whose decoder treats the first token differently from the rest.

    >>> tokenizer = train_tokenizer(["x = 1"], vocab_size=260)
    >>> stream = TextStream(tokenizer)
    >>> [stream.push([index]) for index in encode(tokenizer, "é!")], stream.flush()
    (['', 'é', '!'], '')
    """

    def __init__(self, tokenizer: Any, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._ids: list[int] = []  # the last finished piece, as context for the decoder, and what is still open
        self._context = 0
        self._emitted = 0  # characters of the open part that are already out

    @property
    def whole(self) -> bool:
        """Whether all that was pushed is out: no character is unfinished."""
        return len(self._ids) == self._context

    def push(self, ids: Iterable[int]) -> str:
        """The new text that is final after these ids."""
        self._ids.extend(int(index) for index in ids)
        text = self._open()
        final = text.rstrip("\ufffd")  # the bytes behind a trailing U+FFFD may yet become a character
        new = final[self._emitted :]
        self._emitted = max(self._emitted, len(final))
        if len(final) == len(text):
            self._ids = self._ids[self._context :] or self._ids
            self._context, self._emitted = len(self._ids), 0
        return new

    def flush(self) -> str:
        """What is left, with U+FFFD for an unfinished character; the stream starts anew."""
        rest = self._open()[self._emitted :]
        self._ids, self._context, self._emitted = [], 0, 0
        return rest

    def _open(self) -> str:
        before = decode(self._tokenizer, self._ids[: self._context], self._skip_special)
        return decode(self._tokenizer, self._ids, self._skip_special)[len(before) :]


@contextlib.contextmanager
def _specials(tokenizer: Tokenizer, allowed: bool) -> Iterator[None]:
    """Hold the library's switch, which is a property of the tokenizer and not of a call, for one call."""
    with _toggling:
        before = tokenizer.encode_special_tokens
        if before == (not allowed):
            yield
            return
        tokenizer.encode_special_tokens = not allowed
        try:
            yield
        finally:
            tokenizer.encode_special_tokens = before


def _flat(processor: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a post-processor, in order."""
    inner = processor["processors"] if processor["type"] == "Sequence" else None
    return [processor] if inner is None else [step for each in inner for step in _flat(each)]


def _before(step: dict[str, Any]) -> list[int]:
    """What one of them puts before a text."""
    if step["type"] == "TemplateProcessing":
        pieces = itertools.takewhile(lambda piece: "SpecialToken" in piece, step["single"])
        return [token for piece in pieces for token in step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]]
    return [step["cls"][1]] if "cls" in step else []


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError("the text holds a lone surrogate, which UTF-8 cannot express; replace it") from None
    return text
