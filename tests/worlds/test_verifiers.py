"""Verifiers of code: what parses, where prompts and holes are cut, and that a wrong answer is found wrong."""

from __future__ import annotations

import itertools
import warnings
from types import SimpleNamespace

import pytest

from interlace.errors import DataError, SettingError
from interlace.worlds.corpus import Document, standard_library
from interlace.worlds.tokenizer import encode, train_tokenizer
from interlace.worlds.verifiers import (
    code_prompts,
    completion_parses,
    exact_match,
    infill_cases,
    parses,
    parses_so_far,
)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(standard_library("heldout"))


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_tokenizer([document.text for document in documents[:8]], 600)


@pytest.mark.parametrize("text", ["x = ", "(" * 5000, "x = 1\0", "\ud800", "1 if x else", "-" * 100_000 + "1"])
def test_what_does_not_parse_is_false_and_silent(text, capfd):
    assert not parses(text)
    assert capfd.readouterr().err == ""


def test_no_warning_comes_out():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert parses("x = '\\d'") and parses("x = 1if y else 2")
        list(code_prompts([Document("a.py", "def f():\n    x = '\\d'\n" * 9)], 1, _Bytes(), 60))
    assert not caught


class _Bytes:
    """A tokenizer of one token per byte, which is all that a cut needs."""

    encode_special_tokens = True

    def encode_batch_fast(self, texts, add_special_tokens):
        return [SimpleNamespace(ids=list(text.encode())) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 1",
        "def f(x):",
        "class A:\n    def f(self):  # why",
        "@cached",
        "class A:\n    @property",
        "try:",
        "def f():\n    try:\n        g()",
        "def f():\n    try:\n        try:\n            g()\n        finally:\n            h()",
        "def f(\n    x,\n) -> int:\n",
        "if x:\n    y\nelse:",
        "for x in y:\n\n",
    ],
)
def test_open_blocks_are_closed(text):
    assert parses_so_far(text)


@pytest.mark.parametrize("text", ["f(", "x = ", "'''a", "def f(x)", "try:\n    g()\nx = 1", "if x:\ny", "lambda:\n  :"])
def test_nothing_else_is_repaired(text):
    assert not parses_so_far(text)


PROMPT = "def f(x):\n    y = x"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("\n    return y", True),
        ("\n    return y\n", True),
        ("\n    z = y\n    return (z", True),  # one of two lines is kept
        ("\n    return (y", False),  # none is
        ("\n    return y\n    (\n    (", False),  # one of three
        ("\n    if y:\n        g(y)\n    else:", True),
        ("\n    try:\n        g(y)\n        h(", True),
        ("\n    z = = 1\n    return y", False),
        ("\n    z = 1\n    = 2\n    = 3", False),
        (" + 1\n    return y", True),
        ("", False),
        ("\n\n  \n", False),
        ("\n      return y", False),  # an unexpected indent
        ("\n\n\n\n    z = 1\n    (\n    (\n    (", False),  # blank lines do not count as kept
    ],
)
def test_completions(completion, expected):
    assert completion_parses(PROMPT, completion) is expected


def test_the_prompt_must_parse_too():
    assert completion_parses("def f(x):", "\n    return x")
    assert not completion_parses("f(", "x)")


def test_code_prompts(documents, tokenizer):
    prompts = code_prompts(documents, 60, tokenizer, 96, seed=1)
    assert len(prompts) == 60 == len({prompt.name for prompt in prompts})
    assert len({prompt.name.split(":")[0] for prompt in prompts}) > 12, "spread over the files"
    texts = {document.name: document.text for document in documents}
    for prompt in prompts:
        name = prompt.name.split(":")[0]
        assert prompt.text + prompt.reference in texts[name]
        assert texts[name].endswith(prompt.reference) and prompt.reference.startswith("\n")
        assert 24 <= len(encode(tokenizer, prompt.text)) <= 96
        assert parses_so_far(prompt.text) and completion_parses(prompt.text, prompt.reference)
    assert any(prompt.text.endswith(":") for prompt in prompts), "after a header"
    assert not all(prompt.text.endswith(":") for prompt in prompts), "after a statement"
    assert any(not texts[prompt.name.split(":")[0]].startswith(prompt.text) for prompt in prompts)
    partial = [completion_parses(prompt.text, prompt.reference[:300]) for prompt in prompts]
    assert sum(partial) > 0.8 * len(partial)
    assert not any(completion_parses(prompt.text, prompt.reference[:300][::-1]) for prompt in prompts)


def test_prompts_are_the_same_for_the_same_seed(documents, tokenizer):
    few = documents[:6]
    one = code_prompts(few, 8, tokenizer, 64, seed=1)
    assert one == code_prompts(list(reversed(few)), 8, tokenizer, 64, seed=1)
    assert one[:4] == code_prompts(few, 4, tokenizer, 64, seed=1)
    assert one != code_prompts(few, 8, tokenizer, 64, seed=2)


def test_infill_cases(documents, tokenizer):
    few = documents[:9]
    cases = infill_cases(few, 30, tokenizer, min_tokens=6, max_tokens=40, context_tokens=120)
    assert [case.kind for case in cases] == ["line", "body"] * 15
    texts = {document.name: document.text for document in few}
    for case in cases:
        whole = case.prefix + case.middle + case.suffix
        assert whole in texts[case.name.split(":")[0]]
        parts = [encode(tokenizer, part) for part in (case.prefix, case.middle, case.suffix)]
        assert 6 <= len(parts[1]) <= 40 and len(parts[0]) <= 60 and len(parts[2]) <= 60
        assert [*itertools.chain(*parts)] == encode(tokenizer, whole), "the cuts are between tokens"
        assert case.middle.startswith("\n") and case.suffix.startswith("\n") and not case.prefix.endswith("\n")
    assert cases == infill_cases(few, 30, tokenizer, min_tokens=6, max_tokens=40, context_tokens=120)
    assert cases != infill_cases(few, 30, tokenizer, seed=1, min_tokens=6, max_tokens=40, context_tokens=120)


def test_what_a_hole_is(tokenizer):
    text = (
        'def f(a, b):\n    """Add."""\n\n    c = a; d = b\n    total = (\n        c + d\n    )  # sum\n'
        "    return total\n\n\ndef g(é): return é\n\n\n@one\ndef h():\n    def inner():\n        return 1\n\n"
        "    return inner\n\n\nlast = 1\n"
    )
    cases = infill_cases([Document("a.py", text)], 6, tokenizer, min_tokens=1, max_tokens=200, context_tokens=400)
    lines = {case.middle for case in cases if case.kind == "line"}
    bodies = {case.middle for case in cases if case.kind == "body"}
    statements = {
        "\n    total = (\n        c + d\n    )  # sum",
        "\n    return total",
        "\n        return 1",
        "\n\n    return inner",
    }
    assert lines < statements and len(lines) == 3
    assert bodies == {
        "\n\n    c = a; d = b\n    total = (\n        c + d\n    )  # sum\n    return total",
        "\n    def inner():\n        return 1\n\n    return inner",
        "\n        return 1",
    }
    assert all(case.prefix + case.middle + case.suffix == text for case in cases)


def test_too_few_and_wrong_settings(tokenizer):
    document = Document("a.py", "x = 1\n")
    with pytest.raises(DataError, match=r"the documents give 0 prompts .* not 3; ask for fewer"):
        code_prompts([document], 3, tokenizer, 64)
    with pytest.raises(DataError, match=r"statements|bodies"):
        infill_cases([document, Document("b.py", "no python (")], 2, tokenizer)
    with pytest.raises(SettingError, match="max_tokens"):
        infill_cases([document], 2, tokenizer, min_tokens=9, max_tokens=8)


def test_exact_match():
    assert exact_match("\n    return x   \n\n", "\n    return x")
    assert exact_match("    a = 1 \n    b = 2", "\n    a = 1\n    b = 2\n")
    assert not exact_match("\n  return x", "\n    return x"), "indentation is code"
    assert not exact_match("\n    return x\n    y", "\n    return x")
    assert not exact_match("", "\n    return x")
