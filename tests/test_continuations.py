"""A corpus that a model writes: prompts of the corpus, the model's own words behind them, and runs that go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlace.continuations import continuations, text_prompts, write_continuations
from interlace.errors import DataError, SettingError
from interlace.model import Model, load
from interlace.worlds.corpus import Document, files
from interlace.worlds.packing import tokenize_corpus
from interlace.worlds.tokenizer import encode, train_tokenizer

CODE = [
    Document(f"{n}.py", f'"""Module {n}."""\n\n\n' + f"def f_{n}(x):\n    y = x + {n}\n    return y\n\n\n" * 20)
    for n in range(5)
]
TOKENIZER = train_tokenizer((d.text for d in CODE), 300)


@pytest.fixture(scope="module")
def base() -> Model:
    return load("base")


def test_prompts_are_whole_lines_of_the_corpus() -> None:
    found = list(text_prompts(CODE, 40, TOKENIZER, prompt_tokens=96, seed=3))
    assert len(found) == 40 and len(set(found)) > 20
    for prompt in found:
        assert any(prompt in d.text for d in CODE) and not prompt[0].isspace()
        assert any(prompt + "\n" in d.text for d in CODE)
        assert 24 <= len(encode(TOKENIZER, prompt)) <= 96
    assert {p.split("(")[0] for p in found if p.startswith("def")} == {f"def f_{n}" for n in range(5)}


def test_a_prompt_is_a_function_of_seed_and_number() -> None:
    first = list(text_prompts(CODE, 6, TOKENIZER, 32, seed=1))
    assert list(text_prompts(CODE, 9, TOKENIZER, 32, seed=1))[:6] == first
    assert list(text_prompts(CODE, 6, TOKENIZER, 32, seed=2)) != first


def test_text_of_one_line_is_cut_anywhere() -> None:
    prose = [Document("prose", "the quick brown fox jumps over the lazy dog " * 30)]
    for prompt in text_prompts(prose, 5, TOKENIZER, 16):
        assert prose[0].text.startswith(prompt) and 4 <= len(encode(TOKENIZER, prompt)) <= 16


@pytest.mark.parametrize("documents", [[], [Document("a", "x = 1")]])
def test_texts_too_short_for_a_prompt(documents: list[Document]) -> None:
    with pytest.raises(DataError, match="no text is longer than 8 tokens"):
        list(text_prompts(documents, 1, TOKENIZER, 32))


def test_the_model_goes_on_as_it_does_alone(base: Model) -> None:
    prompts = list(text_prompts(CODE, 5, base.tokenizer, 16))
    found = [one for batch in continuations(base, prompts, 40, at_once=2) for one in batch]
    assert [one.prompt for one in found] == prompts
    for one in found:
        ids = base.encode(one.prompt)
        alone = base.complete(ids, 40 - len(ids))
        assert one.text == one.prompt + base.text(alone.content)
        assert one.tokens == len(alone.content) and one.stopped == alone.stopped


def test_sampled_texts_do_not_depend_on_the_batch(base: Model) -> None:
    """Up to draws that fall on the border of two tokens to 1e-8, where rounding decides: none does with this seed."""
    warm, prompts = base.with_(temperature=1.0), ["def f(x):"] * 5
    made = [[one.text for b in continuations(warm, prompts, 24, at_once=n, seed=70) for one in b] for n in (1, 2, 5)]
    assert made[0] == made[1] == made[2] and len(set(made[0])) > 1
    tail = [one.text for b in continuations(warm, prompts[3:], 24, seed=70, first=3) for one in b]
    assert tail == made[0][3:]


def test_blocks_come_out_whole() -> None:
    twin = load("twin")
    (one,) = next(continuations(twin, ["def area(width, height):"], 30))
    assert one.stopped or (len(twin.encode(one.prompt)) + one.tokens) % twin.parts.layout.size == 0


def test_the_file_is_a_corpus(base: Model, tmp_path: Path) -> None:
    prompts = list(text_prompts(CODE, 7, base.tokenizer, 16))
    counted: list[int] = []
    out = write_continuations(base, prompts, tmp_path / "deep/a.jsonl", 32, 3, on_done=counted.append)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert counted == [3, 3, 1] and [row["prompt"] for row in rows] == prompts
    assert [p.name for p in out.parent.iterdir()] == ["a.jsonl"]
    documents = [*files(out, "train"), *files(out, "heldout")]
    assert sorted(d.text for d in documents) == sorted(row["text"] for row in rows)
    ended = {row["text"]: row["stopped"] for row in rows}
    tokens = tokenize_corpus(documents, base.tokenizer)
    end = base.checkpoint.stop_token_ids[0]
    for i, document in enumerate(documents):
        assert (tokens.document(i)[-1] == end) == ended[document.text]
    assert not all(ended.values())


def test_a_killed_run_goes_on_and_ends_with_the_same_file(base: Model, tmp_path: Path) -> None:
    prompts = list(text_prompts(CODE, 5, base.tokenizer, 16))
    whole = write_continuations(base, prompts, tmp_path / "whole.jsonl", 32, 2).read_bytes()

    def dies(_: int) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "cut.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_continuations(base, prompts, out, 32, 2, on_done=dies)
    partial = tmp_path / "cut.jsonl.partial"
    assert not out.exists() and whole.startswith(partial.read_bytes())
    partial.write_bytes(partial.read_bytes() + whole[partial.stat().st_size :][:30])  # and a line cut short
    counted: list[int] = []
    assert write_continuations(base, prompts, out, 32, 2, on_done=counted.append).read_bytes() == whole
    assert counted == [2, 2, 1] and not partial.exists()


@pytest.mark.parametrize("change", ["seed", "prompts", "length", "garbage", "more"])
def test_a_partial_file_of_another_run_is_kept_and_refused(base: Model, tmp_path: Path, change: str) -> None:
    prompts = list(text_prompts(CODE, 2, base.tokenizer, 16))
    partial = tmp_path / "a.jsonl.partial"
    write_continuations(base, prompts, tmp_path / "a.jsonl", 24).rename(partial)
    if change == "garbage":
        partial.write_bytes(b"[1, 2]\n")
    before = partial.read_bytes()
    about: dict[str, Any] = {"seed": {"seed": 1}, "length": {"length": 25}}.get(change, {})
    other = {"prompts": prompts[::-1], "more": prompts[:1]}.get(change, prompts)
    with pytest.raises(DataError, match=r"line \d: of another model, other settings or other prompts; remove"):
        write_continuations(base, other, tmp_path / "a.jsonl", **({"length": 24} | about))
    assert partial.read_bytes() == before


def test_a_prompt_without_room_and_a_folder_that_is_none(base: Model, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="leaves nothing of length 4"):
        next(continuations(base, ["def area(width, height):"], 4))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_continuations(base, ["def f():"], tmp_path / "file" / "a.jsonl", 24)
