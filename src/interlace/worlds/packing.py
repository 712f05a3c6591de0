"""From documents to rows of tokens: encode once, cache, and pack chunks of documents into rows of equal length.

A row is as long as the model's sequence and holds whole chunks, none of which sees another (``document`` says which is
which). Chunks start at multiples of the block size, so that every block belongs to one document. Which row comes when
is a function of (seed, index) alone: a run resumes at any step without replaying what came before.

>>> corpus = tokenize_corpus(open_corpus("stdlib"), tokenizer, cache="cache")      # doctest: +SKIP
>>> rows = PackedRows(corpus, length=512, multiple=4)                              # doctest: +SKIP
>>> tokens, document, positions = rows.row(0)                                      # doctest: +SKIP
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlace.errors import DataError, SettingError, unwritable
from interlace.worlds.corpus import Document
from interlace.worlds.tokenizer import SPECIAL_TOKENS, backend, begin, encode_batch

if TYPE_CHECKING:
    import numpy as np

_BATCH_CHARACTERS = 1 << 20
_OPEN_ROWS = 64


@dataclass(frozen=True)
class TokenCorpus:
    """Documents as one long array of token ids, each document that has ended closed by the end token.

    ``tokens``: [n] uint16, or int32 for a vocabulary above 65536 (a memory map when it comes from a cache).
    ``starts``: [documents + 1] int64; document ``i`` is ``tokens[starts[i]:starts[i + 1]]``. ``names``: of documents.
    """

    tokens: np.ndarray
    starts: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def document(self, index: int) -> np.ndarray:
        """Token ids of one document, its end token included."""
        return self.tokens[self.starts[index] : self.starts[index + 1]]

    def joined(self) -> TokenCorpus:
        """All documents as one: rows are cut without padding, and documents share blocks and see each other.

        >>> import numpy as np
        >>> corpus = TokenCorpus(np.array([5, 6, 0, 7, 0]), np.array([0, 3, 5]), ("a", "b")).joined()
        >>> PackedRows(corpus, length=5).row(0)[1].tolist()
        [0, 0, 0, 0, 0]
        """
        ends = self.starts[[0, -1]]
        return TokenCorpus(self.tokens, ends, ("all documents",))


def tokenize_corpus(
    documents: Iterable[Document],
    tokenizer: Any,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    end_id: int | None = None,
) -> TokenCorpus:
    """Encode ``documents`` with a ``tokenizers`` or ``transformers`` tokenizer; special tokens in them are plain text.

    A document begins with what the tokenizer puts before every text (``tokenizer.begin``), as prompts do.

    ``cache`` is a folder: the result is kept there under a hash of tokenizer and texts, and read back as a memory map.
    ``progress`` is called with (documents done, documents in all). ``end_id`` is the token that closes a document; by
    default the tokenizer's own end of sequence, or ``<|endoftext|>``. Raises :class:`DataError` for no documents, and
    for a folder that cannot be written or is full, in which no partial file is left.
    """
    found = list(documents)
    if not found:
        raise DataError("the corpus holds no documents; pass one that does")
    end = _end_id(tokenizer) if end_id is None else end_id
    if cache is None:
        return _encode(found, tokenizer, end, progress)
    key = blake2b(backend(tokenizer).to_str().encode(), digest_size=16)
    key.update(end.to_bytes(8, "big"))
    for document in found:
        for part in (document.name, document.text):
            data = part.encode("utf-8", "surrogatepass")
            key.update(len(data).to_bytes(8, "big"))
            key.update(data)
        if not document.ended:
            key.update(b"cut short")
    if begin(tokenizer):  # corpora of earlier versions had none
        key.update(b"begun")
    tokens_path = Path(cache, f"{key.hexdigest()}.tokens.npy")
    starts_path = Path(cache, f"{key.hexdigest()}.starts.npy")
    names = tuple(document.name for document in found)
    loaded = _load(tokens_path, starts_path, names)
    if loaded is None:
        corpus = _encode(found, tokenizer, end, progress)
        _save(tokens_path, corpus.tokens)
        _save(starts_path, corpus.starts)
        loaded = _load(tokens_path, starts_path, names) or corpus
    return loaded


class PackedRows:
    """Rows of exactly ``length`` tokens out of a corpus, without end; every token of it comes once in an epoch.

    A document is cut into chunks of at most ``length`` tokens, and the end of its last chunk is filled with ``pad_id``
    to a multiple of ``multiple``; this filling belongs to the document (it is predicted). Chunks are packed first-fit
    in shuffled order, over the latest 64 open rows. The packing of sizes is made once; an epoch then deals chunks of
    equal size anew, and shuffles the rows and the chunks within a row, so that ``rows_per_epoch`` is constant.
    """

    def __init__(self, corpus: TokenCorpus, length: int, multiple: int = 1, seed: int = 0, pad_id: int = 0) -> None:
        import numpy as np

        if multiple < 1 or length < 1 or length % multiple:
            raise SettingError(f"length {length} does not divide by multiple {multiple}; pass a multiple of it")
        self.corpus, self.length, self.multiple, self.seed, self.pad_id = corpus, length, multiple, seed, pad_id
        begins = [np.arange(start, stop, length) for start, stop in itertools.pairwise(corpus.starts.tolist())]
        counts = [len(part) for part in begins]
        if not sum(counts):
            raise DataError("the corpus holds no tokens; pass one that does")
        self._begin = np.concatenate(begins)
        self._size = np.minimum(self._begin + length, np.repeat(corpus.starts[1:], counts)) - self._begin
        self._padded = -(-self._size // multiple) * multiple
        order = self._random(0).permutation(len(self._padded))
        self._rows = _first_fit(self._padded[order].tolist(), length)
        # The places of the packing in a row; an epoch puts another chunk of the same padded size into each.
        self._slots = np.concatenate([order[row] for row in self._rows])
        self._bounds = np.cumsum([0] + [len(row) for row in self._rows])
        self._plan = functools.lru_cache(maxsize=2)(self._make_plan)

    @property
    def rows_per_epoch(self) -> int:
        """Rows in which every token of the corpus comes exactly once."""
        return len(self._rows)

    @property
    def fill(self) -> float:
        """Part of the rows' places that hold a token of the corpus."""
        return float(self._size.sum()) / (self.rows_per_epoch * self.length)

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row ``index`` (any number from 0) as tokens, document and positions, each [length] int64.

        ``document`` counts the chunks of the row from 0, and is -1 for the filling at the row's end that belongs to
        none. ``positions`` start at 0 in every chunk, and in that filling.
        """
        import numpy as np

        if index < 0:
            raise SettingError(f"row {index} does not exist; rows count from 0")
        epoch, place = divmod(index, self.rows_per_epoch)
        tokens = np.full(self.length, self.pad_id, dtype=np.int64)
        document = np.full(self.length, -1, dtype=np.int64)
        positions = np.zeros(self.length, dtype=np.int64)
        at = 0
        for number, chunk in enumerate(self._plan(epoch)[place]):
            begin, size, padded = int(self._begin[chunk]), int(self._size[chunk]), int(self._padded[chunk])
            tokens[at : at + size] = self.corpus.tokens[begin : begin + size]
            document[at : at + padded] = number
            positions[at : at + padded] = np.arange(padded)
            at += padded
        positions[at:] = np.arange(self.length - at)
        return tokens, document, positions

    def rows(self, indices: Iterable[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """:meth:`row` of many indices, stacked: each [rows, length] int64."""
        import numpy as np

        tokens, document, positions = zip(*(self.row(index) for index in indices), strict=True)
        return np.stack(tokens), np.stack(document), np.stack(positions)

    def _random(self, epoch: int) -> np.random.Generator:
        import numpy as np

        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))

    def _make_plan(self, epoch: int) -> list[np.ndarray]:
        """The chunks of every row of an epoch."""
        import numpy as np

        random = self._random(epoch + 1)
        # Sort slots by size, and sort a shuffled list of chunks by size: equal places hold equal sizes.
        shuffled = random.permutation(len(self._padded))
        chunks = np.empty_like(self._slots)
        by_size = shuffled[np.argsort(self._padded[shuffled], kind="stable")]
        chunks[np.argsort(self._padded[self._slots], kind="stable")] = by_size
        rows = [chunks[start:stop] for start, stop in itertools.pairwise(self._bounds.tolist())]
        return [random.permutation(rows[row]) for row in random.permutation(len(rows))]


def _first_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Indices of ``sizes`` in rows that hold at most ``length`` each; of the open rows only the latest are tried."""
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (row, room)
    least = min(sizes)
    for index, size in enumerate(sizes):
        for place, (row, room) in enumerate(open_rows):
            if size <= room:
                rows[row].append(index)
                if room - size < least:
                    del open_rows[place]
                else:
                    open_rows[place] = (row, room - size)
                break
        else:
            if length - size >= least:
                open_rows.append((len(rows), length - size))
                del open_rows[:-_OPEN_ROWS]
            rows.append([index])
    return rows


def _end_id(tokenizer: Any) -> int:
    own = getattr(tokenizer, "eos_token_id", None)
    found = backend(tokenizer).token_to_id(SPECIAL_TOKENS[0]) if own is None else own
    if found is None:
        raise SettingError("the tokenizer has no end of sequence; pass end_id")
    return int(found)


def _encode(
    documents: Sequence[Document], tokenizer: Any, end: int, progress: Callable[[int, int], None] | None
) -> TokenCorpus:
    import numpy as np

    inner, first = backend(tokenizer), begin(tokenizer)
    dtype = np.uint16 if inner.get_vocab_size() <= 2**16 else np.int32
    parts: list[np.ndarray] = []
    done = 0
    for batch in _batches(documents):
        for document, ids in zip(batch, encode_batch(tokenizer, [document.text for document in batch]), strict=True):
            parts.append(np.array([*first, *ids, *([end] if document.ended else [])], dtype=dtype))
        done += len(batch)
        if progress is not None:
            progress(done, len(documents))
    starts = np.cumsum([0] + [len(part) for part in parts], dtype=np.int64)
    return TokenCorpus(np.concatenate(parts), starts, tuple(document.name for document in documents))


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _save(path: Path, array: np.ndarray) -> None:
    """Write under another name and rename: a reader sees the whole file or none."""
    import numpy as np

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(f"the token cache {path.parent}", error, "pass a folder that can be written") from None


def _load(tokens_path: Path, starts_path: Path, names: tuple[str, ...]) -> TokenCorpus | None:
    import numpy as np

    try:
        tokens = np.load(tokens_path, mmap_mode="r", allow_pickle=False)
        starts = np.load(starts_path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if len(starts) != len(names) + 1 or len(tokens) != starts[-1]:
        return None
    return TokenCorpus(tokens, starts, names)
