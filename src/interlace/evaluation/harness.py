"""What an evaluation harness asks of a model: the likelihood of a continuation, and text up to a stop.

In the terms of lm-eval (https://github.com/EleutherAI/lm-evaluation-harness), but without it: ``interlace.lm_eval``
is the adapter.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ..checkpoints import tokens
from ..errors import SettingError
from ..worlds.tokenizer import backend, begin, encode
from ..writing import unwritten, write
from .likelihood import Row, exact, room, score
from .progress import watched

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Harness", "Wanted"]

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = ("temperature", "top_k", "top_p")


@dataclass(frozen=True)
class Wanted:
    """What a request says of its text. sampling: settings of the decoding, by name."""

    stop: tuple[str, ...]
    length: int
    sampling: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, given: Mapping[str, Any], length: int = 256) -> Wanted:
        """Out of the generation settings of lm-eval: until, max_gen_toks, do_sample, temperature, top_k, top_p.

        ``do_sample: false`` is temperature 0; what is not said stays as the model decodes. ``SettingError`` for a
        setting that is not known here.

        >>> Wanted.of({"until": "\\n", "max_gen_toks": 8, "do_sample": False, "temperature": 0.7})
        Wanted(stop=('\\n',), length=8, sampling=(('temperature', 0.0),))
        """
        left = {name: value for name, value in given.items() if value is not None}
        until = left.pop("until", ())
        stop = (until,) if isinstance(until, str) else tuple(until)
        lengths = [left.pop(name) for name in _LENGTHS if name in left]
        sample = left.pop("do_sample", None)
        sampling = {name: left.pop(name) for name in _SAMPLING if name in left}
        if sample is False:
            sampling = {"temperature": 0.0}
        left = {name: value for name, value in left.items() if (name, value) != ("num_beams", 1)}
        if left:
            name, value = next(iter(left.items()))
            raise SettingError(f"the generation setting {name!r} ({value!r}) is not known here; leave it out")
        return cls(tuple(text for text in stop if text), int((lengths or [length])[0]), tuple(sorted(sampling.items())))


class Harness:
    """A model as an evaluation harness asks it.

    Args:
        model: with a tokenizer; its settings say how text is decoded.
        batch_rows: requests at once, which changes nothing but the time (and rounding).
        draws: masks drawn for a likelihood that is a bound. seed: of these and of sampling.
        progress: bars in a terminal.
    Raises ``SettingError`` for a model without a tokenizer, and for numbers below 1.
    """

    def __init__(
        self, model: Model, batch_rows: int = 8, draws: int = 32, seed: int = 0, progress: bool = False
    ) -> None:
        if model.tokenizer is None:
            raise SettingError("the model has no tokenizer, which tasks need; add the tokenizer's files")
        if batch_rows < 1 or draws < 1:
            raise SettingError(f"batch_size {batch_rows}, draws {draws}; pass 1 or more of both")
        self.model, self.batch_rows, self.draws, self.seed, self.progress = model, batch_rows, draws, seed, progress
        files = model.checkpoint.tokenizer_files
        config, inner = tokens.fields(files, "tokenizer_config.json"), backend(model.tokenizer)
        named = {role: tokens.content(config.get(f"{role}_token")) for role in ("bos", "eos")}
        found = {role: None if text is None else inner.token_to_id(text) for role, text in named.items()}
        stop = next(iter(model.checkpoint.stop_token_ids), None)
        self.eos: int | None = stop if found["eos"] is None else found["eos"]
        """The token that ends a text."""
        self._bos = found["bos"]
        self._begin = begin(inner)

    @property
    def prefix(self) -> int:
        """What stands before a text that has nothing before it: the token that begins a text, or else ends one."""
        found = self.eos if self._bos is None else self._bos
        if found is None:
            raise SettingError("the model names no token that ends a text; add eos_token to tokenizer_config.json")
        return found

    def encode(self, text: str, special: bool | None = None) -> list[int]:
        """Token ids; special tokens in the text count, as in transformers.

        What the tokenizer puts before every text (some put a first token) is there unless ``special`` is False, or the
        text begins with it.
        """
        ids = encode(self.model.tokenizer, text, allow_special=True)
        begun = special is False or ids[: len(self._begin)] == self._begin
        return ids if begun else self._begin + ids

    @property
    def exact(self) -> bool:
        """Whether likelihoods are exact; otherwise they are lower bounds of log p."""
        return exact(self.model)

    @property
    def room(self) -> int:
        """The most tokens before a last one."""
        return room(self.model) - 1

    def log_likelihoods(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        """(log p of the continuation given the context, whether greedy decoding gives it) for every pair of ids.

        Of a context that is too long, the end is kept. For a model with a bound, log p is that bound, an average over
        ``draws`` masks that depend on (seed, context) alone, so the answers of a multiple choice get the same; and
        greedy decoding is run, at the model's settings and temperature 0.

        Raises ``SettingError`` for a continuation that is longer than the model's positions.
        """
        rows: list[Row] = []
        for context, continuation in pairs:
            before, after = list(context) or [self.prefix], list(continuation)
            if len(after) > self.room:
                raise SettingError(f"a continuation of {len(after)} tokens exceeds the model's {self.room}; shorten it")
            before = before[-(self.room + 1 - len(after)) :]
            rows.append(Row([*before, *after], len(before), self._seed(before)))
        some = [i for i, row in enumerate(rows) if row.given < len(row.tokens)]  # nothing costs nothing
        some.sort(key=lambda i: -len(rows[i].tokens))
        found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
        asked = [rows[i] for i in some]
        scores = score(self.model, asked, self.draws, self.batch_rows, self.progress)
        # with less trust than 1, TiDAR's text is not that of its likelihood
        known = self.exact and getattr(self.model.parts.process, "trust", 1.0) == 1.0
        greedy = [bool(one.likeliest) for one in scores] if known else self._greedy(asked)
        for i, one, same in zip(some, scores, greedy, strict=True):
            found[i] = (-one.nats, same)
        return found

    def rolling(self, texts: Sequence[str]) -> list[float]:
        """log p of every text, all of its tokens: behind ``prefix``, in windows as long as the model's positions."""
        windows = [self._windows(self.encode(text)) for text in texts]
        scores = iter(self.log_likelihoods([pair for pairs in windows for pair in pairs]))
        return [sum(next(scores)[0] for _ in pairs) for pairs in windows]

    def _windows(self, ids: list[int]) -> list[tuple[list[int], list[int]]]:
        """(seen, scored) stretches: every token is scored once, and the last stretch sees as much as it can."""
        found, row, size = [], [self.prefix, *ids], self.room
        for first in range(0, len(ids), size):
            last = min(first + size, len(ids))
            found.append((row[max(0, last - size) : first + 1], ids[first:last]))
        return found

    def write(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """The text behind every context, up to the first of its stop texts, a stop token, or its length.

        Requests say how (``Wanted``). Of a context that is too long, the end is kept. A request that is made again
        draws anew: by seed + 1, and so on.
        """
        found = [""] * len(requests)
        seen: Counter[str] = Counter()
        groups: dict[tuple[tuple[str, Any], ...], list[tuple[int, list[int], Wanted, int]]] = {}
        for number, (context, given) in enumerate(requests):
            wanted = Wanted.of(given)
            key = repr((context, wanted))
            groups.setdefault(wanted.sampling, []).append(
                (number, self._fitting(context, wanted.length), wanted, self.seed + seen[key])
            )
            seen[key] += 1
        for sampling, rows in groups.items():
            model = self.model.with_(**dict(sampling))
            rows.sort(key=lambda row: -len(row[1]))
            batches = [rows[i : i + self.batch_rows] for i in range(0, len(rows), self.batch_rows)]
            for some in watched(batches, len(batches), "texts", self.progress):
                ids = [row[1] for row in some]
                written = unwritten(model, ids, [row[2].stop for row in some])
                for _ in write(model, ids, [row[2].length for row in some], written, seed=[row[3] for row in some]):
                    pass
                for row, text in zip(some, written, strict=True):
                    found[row[0]] = text.text
        return found

    def _fitting(self, context: str, length: int) -> list[int]:
        """The ids of a context, from the left cut so that ``length`` tokens fit behind it."""
        ids, left = self.encode(context) or [self.prefix], self._whole - length
        if left < 1:
            most = self._whole
            raise SettingError(f"{length} tokens leave no room in the model's {most}; pass a smaller max_gen_toks")
        if len(ids) > left:
            logging.getLogger(__name__).warning("a context of %d tokens is cut to its last %d", len(ids), left)
        return ids[-left:]

    @property
    def _whole(self) -> int:
        """Positions in whole units of the decoding."""
        size = self.model.parts.layout.size
        return int(self.model.network.config.max_positions // size * size)

    def _greedy(self, rows: Sequence[Row]) -> list[bool]:
        """Whether decoding at temperature 0 gives what is scored of every row."""
        model, found = self.model.with_(temperature=0.0), []
        for first in range(0, len(rows), self.batch_rows):
            some = rows[first : first + self.batch_rows]
            wanted = [row.tokens[row.given :] for row in some]
            ids = [row.tokens[: row.given][-(self._whole - len(one)) :] for row, one in zip(some, wanted, strict=True)]
            results = model.complete_all(ids, [len(one) for one in wanted], stop=())
            found += [result.content.tolist() == one for result, one in zip(results, wanted, strict=True)]
        return found

    def _seed(self, context: Sequence[int]) -> int:
        """A seed that depends on (seed, context) alone."""
        text = f"{self.seed} {','.join(map(str, context))}"
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
