"""Task files: our own lines, published lines as they are, and lines that are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from interlace.errors import DataError
from interlace.tasks import VERIFIERS, read_tasks, task
from interlace.worlds.additions import Additions

# In the published fields; the contents are our own.
GSM8K = {"question": "A pen costs $3. What do 400 cost?", "answer": "They cost 3*400=<<3*400=1200>>1200.\n#### 1,200"}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Sum of xs."""\n',
    "entry_point": "total",
    "canonical_solution": "    return sum(xs)\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n",
}
MBPP = {
    "text": "Write a function to square a number.",
    "code": "def square(x):\r\n    return x * x",
    "task_id": 11,
    "test_setup_code": "import math",
    "test_list": ["assert square(3) == 9", "assert math.sqrt(square(2)) == 2"],
    "challenge_test_list": [],
}
CLEANED = {
    "source_file": "a",
    "task_id": 12,
    "prompt": "Write a function to square a number.",
    "code": "def square(x):\n    return x * x",
    "test_imports": ["import math"],
    "test_list": ["assert math.sqrt(square(2)) == 2"],
}


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("line", [GSM8K, HUMANEVAL, MBPP, CLEANED], ids=["gsm8k", "humaneval", "mbpp", "cleaned"])
def test_published_lines_accept_their_own_solution_and_no_other(line: dict[str, Any]) -> None:
    found = task(line)
    assert found.solution is not None
    ends = [at for at in (found.solution.find(stop) for stop in found.stop) if at >= 0]
    assert found.verifier(found.prompt, found.solution[: min(ends, default=None)]).right
    assert not found.verifier(found.prompt, "\n    return None\n").right
    assert not found.verifier(found.prompt, "").right


def test_published_prompts() -> None:
    assert task(GSM8K).prompt == "Question: A pen costs $3. What do 400 cost?\nAnswer:"
    assert task(GSM8K).message == GSM8K["question"] and task(GSM8K).solution == f" {GSM8K['answer']}"
    assert task(HUMANEVAL).prompt == HUMANEVAL["prompt"] and task(HUMANEVAL).name == "HumanEval/0"
    assert "assert square(3) == 9" in task(MBPP).prompt and task(MBPP).name == "MBPP/11"
    # the whole function in a chat's block, behind the head of the prompt
    answer = "Here:\n```python\ndef total(xs: List[int]) -> int:\n    return sum(xs)\n```"
    assert task(HUMANEVAL).verifier(HUMANEVAL["prompt"], answer).right


def test_own_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path / "own.jsonl",
        {"prompt": "2+2=", "verifier": "exact", "answer": ["4", "four"], "stop": "\n", "name": "sum"},
        {"prompt": "2*3?", "verifier": "number", "answer": 6, "message": "What is 2*3?", "solution": " 6"},
        {"prompt": "def one():", "verifier": "tests", "tests": ["assert one() == 1"], "seconds": 2},
    )
    first, second, third = read_tasks(path)
    assert (first.name, second.name, third.name) == ("sum", "own.jsonl:2", "own.jsonl:3")
    assert first.stop == ("\n",) and second.stop == ()
    assert first.solution == "4" and second.solution == " 6" and third.solution is None
    assert first.message == "2+2=" and second.message == "What is 2*3?"
    assert first.verifier(first.prompt, "four").right and second.verifier(second.prompt, "it is 6").right
    assert third.verifier(third.prompt, " return 1").right
    assert second.where == f"{path}, line 2"
    assert [one.name for one in read_tasks(path, 2)] == ["sum", "own.jsonl:2"]


def test_a_world_as_tasks() -> None:
    world = Additions()
    for prompt in world.prompts(5):
        right = world.complete(prompt)
        one = task({"prompt": prompt, "verifier": "exact", "answer": right, "stop": "\n"})
        assert one.verifier(prompt, right.removesuffix("\n")).right is world.verify(prompt, right) is True
        wrong = right.replace("=", "=0", 1)
        assert one.verifier(prompt, wrong).right is world.verify(prompt, wrong) is False


EXACT = {"prompt": "p", "verifier": "exact", "answer": "a"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"prompt": "p"}, "'verifier' is missing, and the fields are of no known set (GSM8K: question, answer; "),
        (EXACT | {"verifier": "exakt"}, "unknown verifier 'exakt'; did you mean exact?"),
        (EXACT | {"verifier": "judge"}, "unknown verifier 'judge'; known: exact, number, tests"),
        (EXACT | {"verifier": 1}, "'verifier': "),
        ({"prompt": "p", "verifier": "exact"}, "'answer' is missing; add it"),
        ({"verifier": "exact", "answer": "a"}, "'prompt' is missing; add it"),
        ({"prompt": "p", "verifier": "tests"}, "'tests' is missing; add it"),
        ({"prompt": "p", "verifier": "tests", "tests": []}, "'tests': "),
        (EXACT | {"anwser": "b"}, "unknown field 'anwser'; did you mean answer?"),
        (EXACT | {"prompt": 3}, "'prompt': "),
        (EXACT | {"answer": 3}, "'answer': "),
        (EXACT | {"answer": []}, "'answer': "),
        (EXACT | {"stop": ""}, "'stop' is an empty text"),
        (EXACT | {"stop": ["x", ""]}, "'stop' is an empty text"),
        (EXACT | {"verifier": "number"}, "'answer': there is no number in it; got 'a'"),
        ({"question": "q", "answer": "nothing"}, "'answer': there is no number in it; got 'nothing'"),
        ({"prompt": "p", "verifier": "tests", "tests": "pass", "seconds": 0}, "'seconds': "),
        ({"prompt": "p", "verifier": "tests", "tests": "pass", "seconds": float("nan")}, "'seconds': "),
    ],
)
def test_lines_that_are_none(line: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = written(tmp_path / "bad.jsonl", EXACT, line)
    with pytest.raises(DataError) as raised:
        read_tasks(path)
    assert str(raised.value).startswith(f"{path}, line 2: {said}") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", " is empty; put one JSON object on every line"),
        (b"\n \n", " is empty; "),
        (b'{"prompt": ', ", line 1: not JSON; "),
        (b'["p"]', ", line 1: not a JSON object; "),
        (b'{"prompt": "\xff"}', ", line 1: not UTF-8; "),
    ],
)
def test_files_that_are_none(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError) as raised:
        read_tasks(path)
    assert str(raised.value).startswith(f"{path}{said}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.jsonl cannot be read \(No such file or directory\); check the path"):
        read_tasks(tmp_path / "none.jsonl")


def test_a_packed_file(tmp_path: Path) -> None:
    plain = written(tmp_path / "plain.jsonl", HUMANEVAL, GSM8K)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [one.prompt for one in read_tasks(packed)] == [one.prompt for one in read_tasks(plain)]
    for broken in (plain.read_bytes(), packed.read_bytes()[:-12]):
        packed.write_bytes(broken)
        with pytest.raises(DataError, match=r"packed.jsonl.gz cannot be read \(.+\); check the path"):
            read_tasks(packed)


def test_a_line_separator_inside_a_text_is_no_line_end(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps(EXACT | {"prompt": "a\u2028b\x85c"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [one.prompt for one in read_tasks(path)] == ["a\u2028b\x85c"]


def test_every_verifier_says_what_it_checks() -> None:
    assert all(verifier.__doc__ and ">>>" in verifier.__doc__ for verifier in VERIFIERS.values())
