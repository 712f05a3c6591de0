"""What is printed is what the model gives: as text, as JSON, as it becomes final, alone and in a batch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from interlace.checkpoints import save
from interlace.cli.writing import Drafts, pieces
from interlace.generation import Event
from interlace.model import Model
from interlace.worlds.tokenizer import END_ID, decode, encode
from interlace.writing import Writing

from .conftest import checkpoint

PROMPT = "def area("


def rows(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("kind", ["base", "twin"])
def test_a_text_is_what_the_model_gives(kind: str, call: Any, request: pytest.FixtureRequest) -> None:
    path, model = request.getfixturevalue(kind), request.getfixturevalue(f"{kind}_model")
    given = model.complete(PROMPT, 13)
    result = call("generate", PROMPT, "-m", path, "--length", 13)
    assert result.exit_code == 0
    assert result.stdout == decode(model.tokenizer, given.content, skip_special=True) + "\n"
    assert result.stderr == ""  # no terminal, no remarks


def test_a_row_says_everything(call: Any, twin: str, twin_model: Model) -> None:
    given = twin_model.complete(PROMPT, 9, details=True)
    (row,) = rows(call("generate", PROMPT, "-m", twin, "-n", 9, "--json"))
    assert row["prompt"] == PROMPT and row["prompt_tokens"] == twin_model.encode(PROMPT)
    assert row["tokens"] == given.content.tolist()
    assert row["text"] == twin_model.text(given.content)
    assert row["forwards"] == given.forwards
    assert row["tokens_per_forward"] == pytest.approx(len(given.content) / given.forwards, abs=1e-4)
    assert given.log_prob is not None and given.order is not None
    assert row["log_probs"] == pytest.approx(given.log_prob.tolist(), abs=1e-5)
    assert row["order"] == given.order.tolist()
    assert row["seconds"] > 0 and row["seed"] == 0 and row["row"] == 0 and row["stopped"] is False


def test_a_row_of_a_batch_is_that_row_alone(call: Any, twin: str, tmp_path: Path) -> None:
    texts = ["def area(", "x", "    return base * depth"]
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(texts) + "\n\n")
    options = ("-m", twin, "-n", 10, "--json", "--temperature", 1, "--seed", 5, "--threshold", 0.2)
    together = rows(call("generate", "--file", file, *options))
    in_pairs = rows(call("generate", "--file", file, *options, "--batch-rows", 2))
    assert [row["row"] for row in together] == [row["row"] for row in in_pairs] == [0, 1, 2]
    for text, one, other in zip(texts, together, in_pairs, strict=True):
        (alone,) = rows(call("generate", text, *options))
        for key in ("tokens", "text", "forwards", "order"):
            assert one[key] == alone[key] == other[key]
        assert one["log_probs"] == pytest.approx(alone["log_probs"], abs=1e-4)
    assert len({tuple(row["tokens"]) for row in together}) == 3


def test_json_lines_have_lengths_and_seeds_of_their_own(call: Any, twin: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [{"prompt": "x = "}, {"tokens": [100, 101], "length": 2}, {"prompt": "x = ", "seed": 3, "length": 0}]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = rows(call("generate", "--file", file, "-m", twin, "-n", 6, "--json", "--temperature", 1))
    assert [len(row["tokens"]) for row in found] == [6, 2, 0]
    assert [row["seed"] for row in found] == [0, 0, 3]
    assert found[1]["prompt"] is None and found[1]["prompt_tokens"] == [100, 101]


def test_several_texts_are_told_apart(call: Any, base: str, base_model: Model, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("a\nb\n")
    first, second = (decode(base_model.tokenizer, base_model.complete(p, 4).content, True) for p in "ab")
    result = call("generate", "--file", tmp_path / "two.txt", "-m", base, "-n", 4)
    assert result.stdout == f"--- 0\n{first}\n--- 1\n{second}\n"


def test_token_ids_stand_for_text(call: Any, base: str, base_model: Model) -> None:
    ids = base_model.encode(PROMPT)
    (by_text,) = rows(call("generate", PROMPT, "-m", base, "-n", 5, "--json"))
    for written in (" ".join(map(str, ids)), json.dumps(ids), ",".join(map(str, ids))):
        (by_ids,) = rows(call("generate", "--tokens", written, "-m", base, "-n", 5, "--json"))
        assert by_ids["tokens"] == by_text["tokens"] and by_ids["prompt"] is None
    assert len(rows(call("generate", "--tokens", json.dumps([ids, ids[:2]]), "-m", base, "-n", 5, "--json"))) == 2


def test_stdin_is_a_prompt_without_its_last_line_end(call: Any, base: str) -> None:
    text = "def area(width):\n    return"
    (row,) = rows(call("generate", "-m", base, "-n", 3, "--json", input=text + "\n"))
    assert row["prompt"] == text


def test_echo_prints_the_prompt(call: Any, base: str) -> None:
    plain = call("generate", PROMPT, "-m", base, "-n", 5).stdout
    assert call("generate", PROMPT, "-m", base, "-n", 5, "--echo").stdout == PROMPT + plain


def test_nothing_is_a_sensible_amount(call: Any, base: str, twin: str) -> None:
    for path in (base, twin):
        (row,) = rows(call("generate", PROMPT, "-m", path, "-n", 0, "--json"))
        assert (row["tokens"], row["text"], row["forwards"], row["tokens_per_forward"]) == ([], "", 0, 0)
    (row,) = rows(call("generate", "", "-m", twin, "-n", 4, "--json"))  # a diffusion model starts from nothing
    assert len(row["tokens"]) == 4


def test_a_stop_text_ends_a_row_before_it(call: Any, base: str) -> None:
    (whole,) = rows(call("generate", PROMPT, "-m", base, "-n", 20, "--json"))
    stop = whole["text"][7:9]
    at = whole["text"].index(stop)
    (row,) = rows(call("generate", PROMPT, "-m", base, "-n", 20, "--json", "--stop", "never", "--stop", stop))
    assert row["text"] == whole["text"][:at] and row["stopped"] is True
    assert row["forwards"] < whole["forwards"]
    n = len(row["tokens"])
    assert row["tokens"] == whole["tokens"][:n] and len(row["log_probs"]) == len(row["order"]) == n
    assert call("generate", PROMPT, "-m", base, "-n", 20, "--stop", stop).stdout == whole["text"][:at] + "\n"


def test_drafts_show_what_is_open(call: Any, twin: str) -> None:
    result = call("generate", PROMPT, "-m", twin, "-n", 8, "--drafts")
    *events, last = result.stdout.splitlines()
    assert [line.split()[:4] for line in events] == [["row", "0", "forward", str(n + 1)] for n in range(len(events))]
    clean, drafts = ([line for line in events if f"  {kind}  " in line] for kind in ("clean", "draft"))
    assert clean and all("░" not in line for line in clean)
    assert drafts and all("░" in line for line in drafts)
    assert last == call("generate", PROMPT, "-m", twin, "-n", 8).stdout.splitlines()[-1]


def test_another_path_and_no_memory(call: Any, twin: str) -> None:
    options = (PROMPT, "-m", twin, "-n", 8, "--json")
    (one,) = rows(call("generate", *options))
    (other,) = rows(call("generate", *options, "--memory", "none"))
    assert one["tokens"] == other["tokens"]
    (path,) = rows(call("generate", *options, "--schedule", "all-at-once:steps=2", "--reveal", "static"))
    assert path["forwards"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--temperature", "-1"), "temperature is -1.0; pass 0 or more"),
        (("--threshold", "-0.5"), "threshold is -0.5; pass 0 or more"),
        (("--threshold", "nan"), "threshold is nan; pass 0 or more"),
        (("--top-p", "0"), "top_p is 0.0; pass more than 0"),
        (("--reveal", "best"), "reveal is 'best'; pass 'ancestral'"),
        (("--order-temperature", "-1"), "order_temperature is -1.0; pass 0 or more"),
        (("--order-temperature", "nan"), "order_temperature is nan; pass 0 or more"),
        (("--set", "guidance=2"), "unknown setting 'guidance'"),
        (("--block-size", "8"), "block_size is 8, but the model was adapted for 4; leave it"),
        (("--length", "-1"), "the length is -1; pass 0 or more"),
        (("--length", "500"), "exceed the model's 128 positions; shorten the prompt or the length"),
        (("--system", "sdra"), "unknown system 'sdra'; known: acdit, ar, "),
        (("--schedule", "sideways"), "unknown schedule 'sideways'"),
        (("--memory", "leaky"), "unknown memory 'leaky'; pass exact, block, prefix or none"),
        (("--dtype", "int3"), "int3"),
        (("--device", "moon"), "--device moon cannot be used"),
        (("--batch-rows", "0"), "--batch-rows is 0; pass 1 or more"),
        (("--stop", ""), "--stop is an empty text"),
        (("--drafts", "--json"), "--drafts and --json exclude each other"),
        (("--tokens", "1"), "PROMPT and --tokens exclude each other"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(options: tuple[str, ...], said: str, fails: Any, twin: str) -> None:
    assert said in fails("generate", PROMPT, "-m", twin, *options)


def test_prompts_that_cannot_be(fails: Any, base: str, tmp_path: Path) -> None:
    assert "the prompt is empty; next-token generation needs" in fails("generate", "", "-m", base)
    assert "the prompt is empty" in fails("generate", "-m", base, input="")
    assert "stdin is not UTF-8" in fails("generate", "-m", base, input=b"\xff")
    assert "are no token ids; write 1 2 3" in fails("generate", "--tokens", "1 b", "-m", base)
    assert "are no token ids" in fails("generate", "--tokens", "1 -1", "-m", base)
    assert "are no token ids" in fails("generate", "--tokens", f"1 {10**20}", "-m", base)
    assert "are no token ids" in fails("generate", "--tokens", "[" * 5_000, "-m", base)
    assert "token id 9999 is outside the vocabulary" in fails("generate", "--tokens", "9999", "-m", base)
    assert "cannot be read (No such file or directory)" in fails("generate", "--file", tmp_path / "none", "-m", base)
    assert "cannot be read (Is a directory)" in fails("generate", "--file", tmp_path, "-m", base)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "is empty; put one JSON object on every line"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: not a JSON object"),
        ('{"promt": "x"}', "line 1: unknown key 'promt'; did you mean 'prompt'?"),
        ('{"length": 3}', "line 1: pass 'prompt' or 'tokens', one of them"),
        ('{"prompt": "x", "tokens": [1]}', "line 1: pass 'prompt' or 'tokens', one of them"),
        ('{"tokens": "1 2"}', "line 1: 'prompt' is a text and 'tokens' a list of token ids; got '1 2'"),
        ('{"prompt": "x", "seed": "a"}', "line 1: 'seed' is a whole number; got 'a'"),
    ],
)
def test_lines_that_cannot_be(line: str, said: str, fails: Any, base: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(line + "\n")
    assert said in fails("generate", "--file", file, "-m", base)


def test_a_model_that_is_none(fails: Any, tmp_path: Path) -> None:
    assert "does not exist; pass a folder" in fails("generate", "x", "-m", tmp_path / "none")
    assert "config.json" in fails("generate", "x", "-m", tmp_path)


def event(start: int, ids: list[int], clean: bool = True, last: bool = False, forwards: int = 1) -> Event:
    return Event(0, start // 2, start, torch.tensor(ids), clean, 0.0 if clean else 0.5, forwards, last)


def test_units_may_become_final_in_any_order(twin_model: Model) -> None:
    tokenizer = twin_model.tokenizer
    ids = encode(tokenizer, "héllo wörld")
    prompt = 1
    units = {start: ids[max(0, start - prompt) : start + 2 - prompt] for start in range(0, len(ids) + prompt, 2)}
    units[0] = [7, ids[0]]  # the first unit holds the end of the prompt
    for order in (sorted(units), sorted(units, reverse=True), [2, 0, *sorted(units)[2:]]):
        writing = Writing(tokenizer, prompt)
        told = [writing.add(event(start, units[start], last=start == order[-1])) for start in order]
        assert "".join(told) == writing.text == "héllo wörld"
        assert writing.tokens == ids and writing.done


def test_no_text_is_told_that_could_begin_a_stop_text(twin_model: Model) -> None:
    tokenizer = twin_model.tokenizer
    ids = [i for letter in "abSTOx" for i in encode(tokenizer, letter)]
    writing = Writing(tokenizer, 0, stop_texts=["STOP"])
    told = [writing.add(event(n, [i], last=n == 5)) for n, i in enumerate(ids)]
    assert told == ["a", "b", "", "", "", "STOx"]
    ids = [i for letter in "abSTOPx" for i in encode(tokenizer, letter)]
    writing = Writing(tokenizer, 0, stop_texts=["STOP"])
    told = [writing.add(event(n, [i])) for n, i in enumerate(ids)]
    assert "".join(told) == "ab" and writing.tokens == ids[:2] and writing.stopped and writing.done


def test_no_token_is_settled_that_a_stop_text_may_take_back(twin_model: Model) -> None:
    tokenizer = twin_model.tokenizer
    ids = encode(tokenizer, "a。")
    assert len(ids) == 4  # a character of three tokens
    for stop, kept in (("。", 1), ("never", 4)):
        writing, settled = Writing(tokenizer, 0, stop_texts=[stop]), []
        for n, i in enumerate(ids):
            writing.add(event(n, [i], last=n == 3))
            settled.append(writing.settled)
        assert settled == [1, 1, 1, kept] and writing.tokens == ids[:kept]


def test_a_stop_token_ends_a_row(twin_model: Model) -> None:
    a, b = encode(twin_model.tokenizer, "a")[0], encode(twin_model.tokenizer, "b")[0]
    writing = Writing(twin_model.tokenizer, 0, [END_ID])
    assert writing.add(event(0, [a, END_ID, b])) == "a"
    assert writing.tokens == [a] and writing.stopped and writing.done and writing.add(event(4, [b])) == ""


def test_drafts_keep_the_place_of_every_token(twin_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = twin_model.tokenizer
    a = encode(tokenizer, "a")[0]
    assert pieces(tokenizer, [-1, a, a, -1]) == [("░", False), ("aa", True), ("░", False)]
    drafts = Drafts(tokenizer, [3], [4])
    drafts.show(event(2, [9, a], clean=False))  # one token of the prompt, one new
    drafts.show(event(4, [-1, a], clean=False))
    assert drafts.rows == [[a, -1, a, -1]]


def test_drafts_are_redrawn_in_a_terminal(twin_model: Model, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    a = encode(twin_model.tokenizer, "a")[0]
    with Drafts(twin_model.tokenizer, [0], [2]) as drafts:
        drafts.show(event(0, [-1, a], clean=False))
        drafts.show(event(0, [a, a]))
    shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert "░" in shown and "aa" in shown and "\x1b[" in shown and "row 0" not in shown


def test_numbers_of_a_row_are_finite(call: Any, base: str) -> None:
    (row,) = rows(call("generate", PROMPT, "-m", base, "-n", 4, "--json", "--temperature", 0.5, "--top-k", 3))
    assert all(math.isfinite(p) and p <= 0 for p in row["log_probs"]) and row["order"] == [0, 0, 0, 0]


def test_a_tokenizer_that_begins_every_text(call: Any, tmp_path: Path) -> None:
    """Texts get its token, the suffix of a gap and token ids do not; it is not shown."""
    made = checkpoint("sdar", 8)
    assert made.tokenizer is not None
    made.tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 2)])
    folder = save(made, tmp_path / "begun")
    ids = encode(made.tokenizer, "def f(")
    options = ("-m", folder, "-n", 4, "--json")
    rows = [json.loads(call("generate", *how, *options).stdout) for how in (("def f(",), ("--tokens", f"{ids}"))]
    assert [row["prompt_tokens"] for row in rows] == [[2, *ids], ids] and rows[0]["prompt"] == "def f("
    gap = json.loads(call("infill", "def f(<FILL>def f(", "-m", folder, "--length", 4, "--json").stdout)
    assert (gap["prefix_tokens"], gap["suffix_tokens"]) == ([2, *ids], ids)
    assert call("generate", "def f(", "-m", folder, "-n", 4, "--echo").stdout.startswith("def f(")
