"""Packing: every token of the corpus once in an epoch, in its document, aligned, and reproducible from the index."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlace.errors import DataError, SettingError
from interlace.worlds import packing
from interlace.worlds.corpus import Document
from interlace.worlds.packing import PackedRows, TokenCorpus, tokenize_corpus
from interlace.worlds.tokenizer import END_ID, decode, encode, train_tokenizer

PAD = 7


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["def f(x):\n    return x + 1\n" * 20], 300)


@pytest.fixture
def documents() -> list[Document]:
    return [Document(f"{i}.py", f"def f{i}(x):\n    return x + {i}\n" * (i % 5 + 1)) for i in range(30)]


def corpus_of(lengths: list[int]) -> TokenCorpus:
    """A corpus whose tokens are all different, so that each can be traced."""
    starts = np.cumsum([0, *lengths]).astype(np.int64)
    tokens = (100 + np.arange(starts[-1])).astype(np.int32)
    return TokenCorpus(tokens, starts, tuple(f"d{i}" for i in range(len(lengths))))


def chunks(row) -> list[np.ndarray]:
    tokens, document, _ = row
    return [tokens[document == number] for number in range(document.max() + 1)]


@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=40),
    blocks=st.integers(1, 6),
    multiple=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_an_epoch_holds_every_token_once(lengths, blocks, multiple, seed, epoch):
    corpus, length = corpus_of(lengths), blocks * multiple
    packed = PackedRows(corpus, length, multiple, seed, pad_id=PAD)
    count = packed.rows_per_epoch
    seen = []
    for index in range(epoch * count, (epoch + 1) * count):
        tokens, document, positions = row = packed.row(index)
        assert all(part.shape == (length,) and part.dtype == np.int64 for part in row)
        assert (tokens[document < 0] == PAD).all()
        held = document[document >= 0]
        assert (document[: len(held)] == held).all(), "padding of no document comes last"
        assert (np.diff(held) >= 0).all() and set(held) == set(range(held.max() + 1)), "documents are contiguous"
        starts = np.flatnonzero(np.diff(document, prepend=-2))
        assert (starts % multiple == 0).all()
        assert (positions[starts] == 0).all() and (np.diff(positions)[np.diff(document) == 0] == 1).all()
        for chunk in chunks(row):
            real = chunk[chunk != PAD]
            assert len(chunk) - len(real) < multiple and (chunk[: len(real)] == real).all()
            assert (np.diff(real) == 1).all()
            owner = np.searchsorted(corpus.starts, real - 100, side="right")
            assert (owner == owner[0]).all(), "a chunk is of one document"
            if len(real) < len(chunk):
                assert real[-1] - 99 in corpus.starts, "only a document's end is filled"
            seen.extend(real)
    assert sorted(seen) == corpus.tokens.tolist()


def test_rows_are_a_function_of_seed_and_index():
    corpus = corpus_of([5, 40, 17, 3, 9, 64, 22] * 5)
    one, two = (PackedRows(corpus, 32, 4, seed=3) for _ in range(2))
    indices = [7, 200, 0, 55, 7]
    for index in indices:  # in any order, from a fresh object, also epochs apart
        for a, b in zip(one.row(index), PackedRows(corpus, 32, 4, seed=3).row(index), strict=True):
            assert (a == b).all()
    assert (two.rows(indices)[0] == np.stack([one.row(index)[0] for index in indices])).all()
    count = one.rows_per_epoch
    epochs = [np.concatenate([one.row(i)[0] for i in range(e * count, (e + 1) * count)]) for e in range(3)]
    assert not (epochs[0] == epochs[1]).all() and not (epochs[1] == epochs[2]).all()
    other = PackedRows(corpus, 32, 4, seed=4)
    assert any((one.row(i)[0] != other.row(i)[0]).any() for i in range(5))


def test_epochs_deal_new_neighbours():
    """Which chunks share a row changes from epoch to epoch."""
    packed = PackedRows(corpus_of([10] * 60), 20)
    pairs = [
        {frozenset(chunk[0] for chunk in chunks(packed.row(i))) for i in range(e * 30, (e + 1) * 30)} for e in (0, 1)
    ]
    assert packed.rows_per_epoch == 30 and len(pairs[0] & pairs[1]) < 10


def test_rows_are_well_filled():
    lengths = np.random.default_rng(0).integers(1, 300, 400).tolist()
    packed = PackedRows(corpus_of(lengths), 512, 4)
    assert packed.fill > 0.93
    assert packed.fill == pytest.approx(sum(lengths) / (packed.rows_per_epoch * 512))


def test_settings():
    for length, multiple in ((10, 4), (0, 1), (4, 0)):
        with pytest.raises(SettingError, match="multiple"):
            PackedRows(corpus_of([5]), length, multiple)
    with pytest.raises(DataError, match="no tokens"):
        PackedRows(corpus_of([0]), 4)
    with pytest.raises(SettingError, match="count from 0"):
        PackedRows(corpus_of([5]), 4).row(-1)


def test_documents_are_encoded_and_closed(tokenizer, documents, monkeypatch):
    monkeypatch.setattr(packing, "_BATCH_CHARACTERS", 100)
    calls = []
    corpus = tokenize_corpus(iter(documents), tokenizer, progress=lambda done, all_: calls.append((done, all_)))
    assert corpus.tokens.dtype == np.uint16 and len(corpus) == 30 and corpus.names[3] == "3.py"
    for index, document in enumerate(documents):
        assert corpus.document(index).tolist() == [*encode(tokenizer, document.text), END_ID]
    assert calls[-1] == (30, 30) and len(calls) > 3
    assert decode(tokenizer, corpus.document(0)[:-1]) == documents[0].text
    with pytest.raises(DataError, match="no documents"):
        tokenize_corpus([], tokenizer)


def test_the_cache_is_read_back_as_a_memory_map(tokenizer, documents, tmp_path, monkeypatch):
    first = tokenize_corpus(documents, tokenizer, cache=tmp_path / "cache")
    monkeypatch.setattr(packing, "_encode", None)  # a second encoding would fail
    second = tokenize_corpus(iter(documents), tokenizer, cache=tmp_path / "cache")
    assert isinstance(second.tokens, np.memmap)
    assert (first.tokens == second.tokens).all() and (first.starts == second.starts).all()
    assert first.names == second.names
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]


def test_the_cache_knows_its_texts_and_its_tokenizer(tokenizer, documents, tmp_path):
    tokenize_corpus(documents, tokenizer, cache=tmp_path)
    changed = [*documents[:-1], Document(documents[-1].name, documents[-1].text[:-1] + "x")]
    corpus = tokenize_corpus(changed, tokenizer, cache=tmp_path)
    assert decode(tokenizer, corpus.document(29)[:-1]).endswith("x")
    tokenize_corpus(documents, train_tokenizer(["other"], 270), cache=tmp_path)
    assert len(list(tmp_path.glob("*.tokens.npy"))) == 3


def test_a_damaged_cache_is_made_anew(tokenizer, documents, tmp_path):
    first = tokenize_corpus(documents, tokenizer, cache=tmp_path)
    [path] = tmp_path.glob("*.tokens.npy")
    tokens = first.tokens.tolist()
    del first
    path.write_bytes(path.read_bytes()[:-20])
    assert tokenize_corpus(documents, tokenizer, cache=tmp_path).tokens.tolist() == tokens
    path.unlink()
    np.save(path, np.zeros(5, dtype=np.uint16))
    assert tokenize_corpus(documents, tokenizer, cache=tmp_path).tokens.tolist() == tokens


def test_a_full_disk_leaves_no_partial_file(tokenizer, documents, tmp_path, monkeypatch):
    def full(stream, array, **_):
        stream.write(b"half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(DataError, match=r"No space left on device.*; free some space"):
            tokenize_corpus(documents, tokenizer, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        tokenize_corpus(documents, tokenizer, cache=tmp_path / "file")


def test_a_transformers_tokenizer_brings_its_own_end(tokenizer, documents, tmp_path):
    transformers = pytest.importorskip("transformers")
    from interlace.worlds.tokenizer import save_tokenizer

    save_tokenizer(tokenizer, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs.eos_token = "<|im_end|>"
    assert tokenize_corpus(documents, theirs).document(0)[-1] == 3


def test_documents_joined_are_cut_without_padding():
    """Every token once, rows full but the last, one document each with places from 0."""
    corpus = corpus_of([5, 9, 3, 11, 7])
    joined = corpus.joined()
    assert len(joined) == 1 and np.array_equal(joined.document(0), corpus.tokens)
    packed = PackedRows(joined, 8, 4, seed=1, pad_id=PAD)
    assert packed.rows_per_epoch == 5
    found = []
    for index in range(5):
        tokens, document, positions = packed.row(index)
        real = tokens[tokens != PAD]
        assert (np.diff(real) == 1).all() and real[0] % 8 == 100 % 8
        assert positions.tolist() == list(range(8)) or len(real) < 8
        found += real.tolist()
        assert set(document.tolist()) <= {0, -1}
    assert sorted(found) == corpus.tokens.tolist()
