"""interlace evaluate --task: published files as they are, verdicts line by line, and what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlace.checkpoints import load, save
from interlace.evaluation import ask, solve
from interlace.model import Model
from interlace.tasks import read_tasks

GSM8K = [
    {"question": f"What is {n} and {n}?", "answer": f"{n}+{n}=<<{n}+{n}={n + n}>>{n + n}\n#### {n + n}"}
    for n in range(5)
]
HUMANEVAL = [
    {
        "task_id": f"HumanEval/{n}",
        "prompt": f"def area_{n}(width, height):\n",
        "canonical_solution": "    return width * height\n",
        "test": "def check(candidate):\n    assert candidate(2, 3) == 6\n",
        "entry_point": f"area_{n}",
    }
    for n in range(2)
]
FEW = ("--length", 8, "--batch-rows", 2)


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def found(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_published_file_as_it_is(call: Any, base: str, twin: str, twin_model: Model, tmp_path: Path) -> None:
    path, out = written(tmp_path / "gsm8k-test.jsonl", GSM8K), tmp_path / "new" / "verdicts.jsonl"
    first, second = found(call("evaluate", base, twin, "--task", path, *FEW, "--json", "--out", out))
    assert [first["system"], second["system"]] == ["ar", "sdar"]
    [point] = second["points"]
    assert point["threshold"] == 0.9 and first["points"][0]["threshold"] is None
    done = solve(twin_model, ask(twin_model, read_tasks(path), 8), 8, at_once=5)
    assert point["accuracy"] == done.accuracy and point["interval"] == list(done.interval)
    assert (point["tokens"], point["forwards"], point["answers"]) == (done.tokens, done.forwards, 5)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["task"] for line in lines] == 2 * [f"gsm8k-test.jsonl:{n}" for n in range(1, 6)]
    assert [line["completion"] for line in lines[5:]] == [r.text for r in done.records]
    assert {line["model"] for line in lines[:5]} == {base} and all(line["threshold"] == 0.9 for line in lines[5:])
    assert sum(line["right"] for line in lines[5:]) == point["right"]
    assert not out.with_name("verdicts.jsonl.partial").exists()


def test_code_and_a_sweep(call: Any, twin: str, tmp_path: Path) -> None:
    path, out = written(tmp_path / "humaneval.jsonl", HUMANEVAL), tmp_path / "verdicts.jsonl"
    result = call("evaluate", twin, "--task", path, *FEW, "--thresholds", "1.0,0.01", "--out", out)
    assert result.exit_code == 0, result.output
    assert "humaneval.jsonl: 2 tasks" in result.stdout and "accuracy" in result.stdout and "0 of 2" in result.stdout
    assert f"{out} has every answer with its verdict" in result.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["task"], line["threshold"]) for line in lines] == [
        ("HumanEval/0", 1.0), ("HumanEval/1", 1.0), ("HumanEval/0", 0.01), ("HumanEval/1", 0.01),
    ]  # fmt: skip
    assert all("Error" in line["verdict"] and not line["right"] for line in lines)


def test_examples_and_samples(call: Any, base: str, base_model: Model, tmp_path: Path) -> None:
    path = written(tmp_path / "tasks.jsonl", GSM8K)
    options = ("--shots", 1, "--shots-from", path, "--limit", 3, "--samples", 2, "--temperature", 1, "--seed", 4)
    [one] = found(call("evaluate", base, "--task", path, *FEW, *options, "--json"))
    assert (one["tasks"], one["shots"], one["samples"], one["points"][0]["answers"]) == (3, 1, 2, 6)
    assert one["points"][0]["pass_any"] >= one["points"][0]["accuracy"]
    tasks, model = read_tasks(path, 3), base_model.with_(temperature=1.0)
    done = solve(model, ask(model, tasks, 8, read_tasks(path, 2), 1), 8, samples=2, seed=4)
    assert (one["points"][0]["tokens"], one["points"][0]["right"]) == (done.tokens, done.right)


def test_a_chat(call: Any, fails: Any, base: str, tmp_path: Path) -> None:
    path = written(tmp_path / "tasks.jsonl", GSM8K[:1])
    message = fails("evaluate", base, "--task", path, *FEW, "--chat", "--json")
    assert message.endswith("has no chat template; go without, or add the template to tokenizer_config.json")
    speaks = load(base)
    speaks.tokenizer_files["chat_template.jinja"] = b"{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    folder = save(speaks, tmp_path / "speaks")
    [one] = found(call("evaluate", folder, "--task", path, *FEW, "--chat", "--json"))
    assert one["chat"] is True and one["points"][0]["answers"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--length", 0), "--length, --batch-rows, --samples, --limit are 1 or more"),
        (("--limit", 0), "--length, --batch-rows, --samples, --limit are 1 or more"),
        (("--shots", -1), "--length, --batch-rows, --samples, --limit are 1 or more, --shots 0 or more"),
        (("--shots", 1), "--shots and --shots-from belong together"),
        (("--shots-from", "FILE"), "--shots and --shots-from belong together"),
        (("--shots", 5, "--shots-from", "FILE"), "has 4 examples beside the task; pass --shots 4, or another file"),
        (("--samples", 2), "2 samples at temperature 0 are all the same; pass --temperature, or one sample"),
        (("--length", 126), "line 1: "),
        (("--thresholds", "0.9,-1"), "threshold is -1.0; pass 0 or more"),
        (("--out", "FILE/inside"), "cannot be written"),
    ],
)
def test_tasks_that_cannot_be_asked(fails: Any, twin: str, tmp_path: Path, options: tuple[Any, ...], said: str) -> None:
    path = written(tmp_path / "tasks.jsonl", GSM8K)
    given = [str(path) + str(o)[4:] if str(o).startswith("FILE") else o for o in options]
    assert said in fails("evaluate", twin, "--task", path, "--json", *FEW, *given)


def test_a_folder_for_a_file_is_found_before_the_first_answer(
    fails: Any, twin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*args: Any, **options: Any) -> None:
        raise AssertionError("it was asked")

    monkeypatch.setattr(Model, "stream", asked)
    path = written(tmp_path / "tasks.jsonl", GSM8K)
    assert "cannot be written (Is a directory)" in fails("evaluate", twin, "--task", path, *FEW, "--out", tmp_path)


def test_files_that_are_no_tasks(fails: Any, twin: str, tmp_path: Path) -> None:
    path = written(tmp_path / "tasks.jsonl", [*GSM8K[:2], {"prompt": "a", "verifier": "exakt", "answer": "b"}])
    assert fails("evaluate", twin, "--task", path) == f"{path}, line 3: unknown verifier 'exakt'; did you mean exact?"
    assert "is empty; put one JSON object" in fails("evaluate", twin, "--task", written(tmp_path / "none.jsonl", []))
    assert "cannot be read (No such file" in fails("evaluate", twin, "--task", tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize("option", [("--limit", 3), ("--shots", 1), ("--chat",), ("--samples", 2), ("--out", "x")])
def test_options_of_tasks_without_a_task(fails: Any, base: str, option: tuple[Any, ...]) -> None:
    assert fails("evaluate", base, *option) == f"{option[0]} belongs to --task; pass --task FILE, or leave it out"


def test_an_interrupted_run_keeps_its_verdicts(
    call: Any, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interlace.tasks import Number

    path, out, seen = written(tmp_path / "tasks.jsonl", GSM8K), tmp_path / "verdicts.jsonl", []
    checked = Number.__call__

    def stopping(self: Number, prompt: str, completion: str) -> Any:
        seen.append(prompt)
        if len(seen) > 4:
            raise KeyboardInterrupt
        return checked(self, prompt, completion)

    monkeypatch.setattr(Number, "__call__", stopping)
    result = call("evaluate", base, "--task", path, *FEW, "--out", out)
    assert result.exit_code == 130 and not out.exists()
    assert len(out.with_name("verdicts.jsonl.partial").read_text().splitlines()) == 4
