"""A corpus that a model writes: sequence-level distillation.

Human text has many good continuations, and a student that fixes several tokens at once must not mix them. What a
teacher writes greedily has one. So the student learns from p_teacher's own mode y* = argmax p(y | prompt) instead of a
sample of the data, behind prompts of the corpus; surer tokens are fixed together. What that gave here is in the log.

Source: sequence-level knowledge distillation (Kim and Rush, arXiv:1606.07947); for parallel decoding,
non-autoregressive translation (Gu et al., arXiv:1711.02281).
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .errors import DataError, SettingError, unwritable
from .evaluation.completion import whole
from .worlds.tokenizer import decode, encode

if TYPE_CHECKING:
    from .model import Model
    from .worlds.corpus import Document

__all__ = ["Continuation", "continuations", "text_prompts", "write_continuations"]

_SHORTEST = 4  # a prompt has at least a fourth of the longest one's tokens
_CHARACTERS = 24  # more characters than a token has, on the average of any text
_TRIES = 1000


@dataclass(frozen=True)
class Continuation:
    """text: the prompt and what the model wrote behind it. stopped: whether the model ended it. tokens: the new ones.
    key: a hash of model, settings and prompt."""

    prompt: str
    text: str
    stopped: bool
    tokens: int
    key: str


def text_prompts(
    documents: Iterable[Document], count: int, tokenizer: Any, prompt_tokens: int = 128, seed: int = 0
) -> Iterator[str]:
    """``count`` beginnings out of ``documents``, drawn by (seed, number) with chances by length.

    A prompt starts with a line that is not indented, has between ``prompt_tokens / 4`` and ``prompt_tokens`` tokens,
    and ends before a line end where there is one in that range. Any text will do. Raises ``SettingError`` for a
    count or length below 1, ``DataError`` where no document is long enough.

    >>> from interlace.worlds.corpus import Document
    >>> from interlace.worlds.tokenizer import train_tokenizer
    >>> text = "def f(x):\\n    return x\\n" * 9
    >>> next(text_prompts([Document("a.py", text)], 1, train_tokenizer([text], 264), prompt_tokens=32))[:9]
    'def f(x):'
    """
    if count < 1 or prompt_tokens < 1:
        raise SettingError(f"count {count}, prompt_tokens {prompt_tokens}; pass 1 or more")
    texts = [document.text for document in documents]
    ends = list(itertools.accumulate(map(len, texts)))
    shortest = max(1, prompt_tokens // _SHORTEST)
    for number in range(count):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        for _ in range(_TRIES if ends and ends[-1] else 0):
            place, size = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
            at = int(place * ends[-1])
            which = bisect.bisect_right(ends, at)
            text = texts[which]
            begin = _line_start(text, at - (ends[which] - len(text)))
            piece = text[begin : begin + _CHARACTERS * prompt_tokens]
            ids = encode(tokenizer, piece)
            wanted = shortest + int(size * (prompt_tokens - shortest + 1))
            if len(ids) > wanted:
                yield _cut(tokenizer, ids, shortest, wanted)
                break
        else:
            raise DataError(f"no text is longer than {shortest} tokens; pass longer ones, or fewer prompt tokens")


def _line_start(text: str, at: int) -> int:
    """The start of the last line at or before ``at`` that is not blank and not indented."""
    while at > 0:
        at = text.rfind("\n", 0, at) + 1
        if text[at : at + 1].strip():
            return at
        at -= 1
    return 0


def _cut(tokenizer: Any, ids: list[int], shortest: int, wanted: int) -> str:
    """At most ``wanted`` tokens, up to a line end if that leaves ``shortest`` of them."""
    text = decode(tokenizer, ids[:wanted]).rstrip("\ufffd")
    line = text.rfind("\n")
    return text[:line] if line > 0 and len(encode(tokenizer, text[:line])) >= shortest else text


def continuations(
    model: Model, prompts: Iterable[str], length: int = 256, at_once: int = 64, seed: int = 0, first: int = 0
) -> Iterator[list[Continuation]]:
    """Batch by batch, what ``model`` writes behind every prompt until it stops or ``length`` tokens are reached.

    ``length`` counts the prompt too; the last block is whole. Row ``i`` draws by ``seed + first + i`` and does not see
    the others. Raises ``SettingError`` for a prompt that leaves no room.

    >>> next(continuations(load("base"), ["def area(width, height):"], length=32))[0].text     # doctest: +SKIP
    """
    if at_once < 1:
        raise SettingError(f"at_once is {at_once}; pass 1 or more")
    keys = _keys(model, length, seed)
    numbers = itertools.count(first)
    for some in _batches(prompts, at_once):
        ids = [model.encode_prompt(prompt) for prompt in some]
        longest = max(map(len, ids))
        if longest >= length:
            raise SettingError(f"a prompt of {longest} tokens leaves nothing of length {length}; pass a longer length")
        seeds = list(itertools.islice(numbers, len(some)))
        lengths = [whole(model, len(one), length - len(one)) for one in ids]
        results = model.complete_all(ids, lengths, seed=[seed + number for number in seeds])
        yield [
            Continuation(prompt, (prompt + model.text(r.content)).rstrip("\ufffd"), r.stopped, len(r.content), key)
            for prompt, key, r in zip(some, map(keys, some), results, strict=True)
        ]


def write_continuations(
    model: Model,
    prompts: Sequence[str],
    out: str | os.PathLike[str],
    length: int = 256,
    at_once: int = 64,
    seed: int = 0,
    on_done: Callable[[int], None] | None = None,
) -> Path:
    """:func:`continuations` as JSON lines, which ``interlace adapt --data`` takes; ``on_done(n)`` after every batch.

    ``out`` appears when it is whole; what is done until then stands in ``out`` + ``.partial``, and the same call goes
    on from there. Raises ``DataError`` for a partial file of other prompts, settings or another model, and for a full
    disk, with nothing lost.
    """
    target = Path(out)
    partial = target.with_name(target.name + ".partial")
    keys = _keys(model, length, seed)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("a+b") as stream:
            done = _resume(stream, [keys(prompt) for prompt in prompts], partial)
            if on_done and done:
                on_done(done)
            for batch in continuations(model, prompts[done:], length, at_once, seed, done):
                lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in batch]
                stream.write("".join(lines).encode("utf-8", "replace"))
                stream.flush()
                os.fsync(stream.fileno())
                if on_done:
                    on_done(len(batch))
        os.replace(partial, target)
    except OSError as error:
        raise unwritable(partial, error) from None
    return target


def _keys(model: Model, length: int, seed: int) -> Callable[[str], str]:
    """The key of a prompt's line: equal keys, equal lines. The last norm stands for the weights: training moves it."""
    weights = model.network.norm.weight.detach().float().cpu().numpy().tobytes()
    settings = model.settings.model_dump(mode="json")
    how = json.dumps([str(model.checkpoint.source), model.system.name, settings, length, seed])
    start = blake2b(weights + how.encode(), digest_size=8)

    def key(prompt: str) -> str:
        whole = start.copy()
        whole.update(prompt.encode("utf-8", "replace"))
        return whole.hexdigest()

    return key


def _resume(stream: Any, keys: Sequence[str], path: Path) -> int:
    """How many whole lines of these keys are there; what is behind them, a line cut short, is taken away."""
    stream.seek(0)
    done = size = 0
    for line in stream:
        if not line.endswith(b"\n"):
            break
        try:
            key = json.loads(line)["key"]
        except (ValueError, KeyError, TypeError):
            key = None
        if done >= len(keys) or key != keys[done]:
            raise DataError(
                f"{path}, line {done + 1}: of another model, other settings or other prompts; remove the file, or give "
                "the command that began it"
            )
        done, size = done + 1, size + len(line)
    stream.truncate(size)
    return done


def _batches(prompts: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(prompts)
    while some := list(itertools.islice(rest, size)):
        yield some
