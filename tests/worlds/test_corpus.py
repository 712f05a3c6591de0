"""Corpora: what is in them, what is held out, and what a user with a wrong file reads."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import pytest

from interlace.errors import DataError, SettingError
from interlace.worlds import corpus
from interlace.worlds.corpus import Document, files, installed_sources, is_heldout, open_corpus, standard_library


@pytest.fixture(scope="module")
def train() -> list[Document]:
    return list(standard_library("train"))


@pytest.fixture(scope="module")
def heldout() -> list[Document]:
    return list(standard_library("heldout"))


def test_importing_the_worlds_imports_nothing_heavy():
    modules = ["", *(f".{path.stem}" for path in Path(corpus.__file__).parent.glob("[a-z]*.py"))]
    assert len(modules) > 7
    code = f"import sys, {', '.join('interlace.worlds' + module for module in modules)}\n"
    code += "heavy = ('torch', 'numpy', 'tokenizers', 'sklearn', 'datasets')\n"
    code += "print([name for name in heavy if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_split_is_fixed_by_path_alone():
    # Written down once: a change here silently turns held-out files into training data.
    paths = ["asyncio/futures.py", "pydoc.py", "trace.py", "json/decoder.py", "argparse.py", "email/mime/text.py"]
    assert [is_heldout(path) for path in paths] == [True, True, True, False, False, True]


def test_standard_library(train, heldout):
    names = [document.name for document in train]
    assert names == sorted(names) and len(set(names)) == len(names) > 300
    assert sum(len(document.text) for document in train) > 4_000_000
    assert 10 <= len(heldout) <= 60
    assert all(is_heldout(document.name) for document in heldout)
    assert not any(is_heldout(name) for name in names)
    for name in names:
        parts = set(name.split("/"))
        assert not parts & {"test", "tests", "idlelib", "site-packages", "__pycache__", "encodings"}, name
    assert not {"pydoc_data/topics.py", "html/entities.py"} & set(names)
    assert {"argparse.py", "json/decoder.py"} <= set(names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for document in heldout:
            ast.parse(document.text)


def test_no_copy_of_a_held_out_file_is_trained_on(monkeypatch, tmp_path, heldout):
    """Exact copies, vendored near copies, duplicates, tests and generated files all stay out of the wider corpus."""
    victim = next(document for document in heldout if document.name == "trace.py")
    lines = victim.text.splitlines()
    package = tmp_path / "package"
    (package / "tests").mkdir(parents=True)
    (package / "__pycache__").mkdir()
    kept = "def area(width, height):\n    return width * height\n"
    contents = {
        "kept.py": kept,
        "duplicate.py": kept,
        "exact.py": victim.text,
        "vendored.py": "# vendored\nimport something_else_entirely\n" + "\n".join("    " + line for line in lines),
        "part.py": "\n".join(lines[100:300]),
        "test_it.py": "def test():\n    assert True\n",
        "tests/helper.py": "HELPER = 'a helper of the tests'\n",
        "long_line.py": f"x = {'a' * 1500!r}\n",
        "table.py": "".join(f"{i}: 0x{i:06},\n" for i in range(400)),
        "large.py": "value = compute(other)\n" * 12_000,
        "empty.py": "\n",
        "latin.py": "x = 1",
        "__pycache__/cached.py": "x = 2",
    }
    for name, text in contents.items():
        (package / name).write_text(text)
    (package / "latin.py").write_bytes(b"name = '\xe9'\n")  # not UTF-8, and says nothing of its encoding
    monkeypatch.setattr(sysconfig, "get_path", _instead_of(sysconfig.get_path, tmp_path))
    found = list(installed_sources())
    assert [document.text for document in found] == [kept]


def test_a_short_copy_must_be_exact():
    """Two lines in common mean nothing in a long file, unless the whole file is the same."""
    copies = corpus._Copies([Document("a.py", "import collections.abc as abc\nx = 1\n")])
    assert copies.contain("import collections.abc as abc\nx = 1\n")
    assert not copies.contain("import collections.abc as abc\nx = 2\n")


def _instead_of(get_path, folder: Path):
    return lambda key, *rest: str(folder) if key in ("purelib", "platlib") else get_path(key, *rest)


def test_installed_sources_are_limited_and_in_a_fixed_order():
    first = list(installed_sources(300_000))
    again = list(installed_sources(100_000))
    assert first[: len(again)] == again
    size = sum(len(document.text.encode()) for document in first)
    assert 300_000 <= size < 300_000 + 210_000
    assert len({document.name.split("/")[1] for document in first}) > 5, "one package fills the sample"
    with pytest.raises(SettingError, match="limit_bytes"):
        next(installed_sources(0))


def test_open_corpus_dispatches(tmp_path, monkeypatch, train, heldout):
    assert list(open_corpus("stdlib+installed+tests", "heldout")) == heldout
    monkeypatch.setattr(corpus, "standard_library", lambda split: iter(train))
    names = [document.name for document in open_corpus("stdlib+installed", limit_bytes=50_000)]
    assert names[: len(train)] == [document.name for document in train] and len(names) > len(train)
    assert all(name.startswith("site-packages/") for name in names[len(train) :])
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert list(open_corpus(str(tmp_path / "a.txt"))) == [Document("a.txt", "one\n")]
    with pytest.raises(DataError, match="not found; pass an existing path, hf:NAME, or one of stdlib"):
        open_corpus("no/such/path")
    with pytest.raises(SettingError, match="split"):
        open_corpus("stdlib", "validation")


def test_a_text_file_is_split_at_a_line_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"líne {i}\r\n" for i in range(100)).encode())
    [train], [heldout] = list(files(path)), list(files(path, "heldout"))
    assert train.text + heldout.text == "".join(f"líne {i}\n" for i in range(100))
    assert heldout.text.count("\n") == 5
    path.write_text("a single line")
    with pytest.raises(DataError, match="single line"):
        list(files(path, "heldout"))


@pytest.mark.parametrize("count", [2, 7, 200])
def test_a_directory_is_split_by_file(tmp_path, count):
    (tmp_path / "deep").mkdir()
    for i in range(count):
        (tmp_path / "deep" / f"{i}.md").write_text(f"text {i}")
    (tmp_path / ".hidden").write_bytes(b"\xff")
    train, heldout = list(files(tmp_path)), list(files(tmp_path, "heldout"))
    assert len(train) + len(heldout) == count
    assert 1 <= len(heldout) < max(2, count // 5)
    assert not {d.name for d in train} & {d.name for d in heldout}
    assert train[0].name.startswith("deep/")


def test_a_single_file_is_for_training_whatever_its_hash(tmp_path):
    name = next(f"{i}.txt" for i in range(1000) if is_heldout(f"{i}.txt"))
    (tmp_path / name).write_text("text")
    assert [document.name for document in files(tmp_path)] == [name]
    with pytest.raises(DataError, match="single document"):
        list(files(tmp_path, "heldout"))


def test_json_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"question": f"{i} + 1?", "answer": str(i + 1), "body": f"b{i % 7}"} for i in range(300)]
    path.write_text("\n\n".join(map(json.dumps, rows)))
    both = list(files(path, fields=("question", "answer"))) + list(
        files(path, "heldout", fields=("question", "answer"))
    )
    assert sorted(d.text for d in both) == sorted(f"{i} + 1?\n{i + 1}" for i in range(300))
    # Seven texts, repeated: a text is on one side only, however often it comes.
    train = {d.text for d in files(path, field="body")}
    heldout = {d.text for d in files(path, "heldout", field="body")}
    assert train | heldout == {f"b{i}" for i in range(7)} and heldout and not train & heldout


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "a.txt is empty; "),
        ("a.txt", b"fine\nna\xefve\n", "a.txt, line 2: not UTF-8; convert"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl, line 2: not JSON; "),
        ("a.jsonl", b'{"text": "x"}\n\n["x"]\n', "a.jsonl, line 3: not a JSON object; "),
        ("a.jsonl", b'{"body": "x", "id": 1}\n', "line 1: no text in field 'text'; pass a field that it has: body, id"),
        ("a.jsonl", b'{"text": "  "}\n', "line 1: the text is empty; "),
        ("a.jsonl", b'{"text": "\xff"}\n', "line 1: not UTF-8; "),
        ("a.jsonl", b"\n", "a.jsonl is empty; "),
    ],
)
def test_a_bad_file_is_named_with_line_and_remedy(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(files(path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_empty_paths(tmp_path):
    with pytest.raises(DataError, match="holds no files; "):
        list(files(tmp_path))
    for name in ("none.txt", "none.jsonl"):
        with pytest.raises(DataError, match="cannot be read"):
            list(files(tmp_path / name))
    with pytest.raises(SettingError, match="heldout_every"):
        list(files(tmp_path, heldout_every=1))


def test_a_local_dataset(tmp_path):
    pytest.importorskip("datasets")
    rows = [{"text": f"document {i}"} for i in range(100)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train = [document.text for document in open_corpus(f"hf:{tmp_path}")]
    heldout = [document.text for document in open_corpus(f"hf:{tmp_path}", "heldout")]
    assert sorted(train + heldout) == sorted(row["text"] for row in rows) and heldout
    with pytest.raises(DataError, match=r"no text in field 'body'; pass one of its fields: text"):
        list(corpus.dataset(str(tmp_path), field="body"))
    with pytest.raises(DataError) as caught:
        list(open_corpus(f"hf:{tmp_path / 'nothing'}"))
    assert "cannot be read" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'interlace\[data\]'"):
        list(corpus.dataset("any"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind here")
def test_an_unreadable_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        list(files(path))
