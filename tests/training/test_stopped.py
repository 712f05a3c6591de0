"""A run that is asked to end does so behind a step, with a checkpoint, and goes on as if it had not been asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.training.stopping import Asked

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def interrupts_are_heard() -> Iterator[None]:
    """A shell starts what runs behind it deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stopped(tiny: Any, out: Path, at: int, send: Callable[[], None], **changes: Any) -> None:
    """The tiny run; ``send`` is called behind that step."""
    settings = tiny.settings(out, **{"checkpoint_every": 100} | changes)

    def on_log(facts: dict[str, Any]) -> None:
        if facts["step"] == at:
            send()

    rows, held_out = tiny.Counting(), tiny.Counting(first=1000)
    tiny.train(tiny.network(), tiny.OBJECTIVES["next token"], rows, settings, held_out, on_log=on_log)


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "training" / "checkpoints").glob("*"))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_behind_a_step(tiny: Any, tmp_path: Path, number: int, capfd: Any) -> None:
    before = [signal.getsignal(s) for s in SIGNALS]
    out, unbroken = tmp_path / "run", tmp_path / "unbroken"
    with pytest.raises(KeyboardInterrupt, match="the run ended after step 4; the same call goes on from there"):
        stopped(tiny, out, 3, lambda: signal.raise_signal(number))
    assert "stopping after this step, with a checkpoint; once more stops at once" in capfd.readouterr().err
    assert checkpoints(out) == ["step-00000004"] and len(tiny.lines(out)) == 4
    assert [signal.getsignal(s) for s in SIGNALS] == before
    resumed, expected = tiny.run(out, checkpoint_every=100), tiny.run(unbroken, checkpoint_every=100)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    assert [line["loss"] for line in tiny.lines(out)] == [line["loss"] for line in tiny.lines(unbroken)]


def test_a_second_one_ends_it_at_once(tiny: Any, tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as ended:
        stopped(tiny, tmp_path, 3, twice)
    assert str(ended.value) == "" and checkpoints(tmp_path) == [] and len(tiny.lines(tmp_path)) == 3


def test_in_the_last_step_the_run_just_ends(tiny: Any, tmp_path: Path) -> None:
    stopped(tiny, tmp_path, 8, lambda: signal.raise_signal(signal.SIGTERM))
    assert checkpoints(tmp_path) == ["step-00000008"] and "held_out_loss" in tiny.lines(tmp_path)[-1]


def test_what_the_program_handles_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    before = [signal.signal(s, h) for s, h in zip(SIGNALS, (signal.SIG_IGN, lambda n, _: heard.append(n)), strict=True)]
    try:
        with Asked() as asked:
            for number in SIGNALS:
                signal.raise_signal(number)
        assert not asked and heard == [signal.SIGTERM]
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def test_in_another_thread_nothing_is_heard() -> None:
    found: list[bool] = []

    def work() -> None:
        with Asked() as asked:
            found.append(bool(asked) or bool(asked.before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_an_echo_is_no_second_signal() -> None:
    with Asked(echo=60.0) as asked:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert asked


def test_all_processes_end_behind_the_same_step(tiny: Any, tmp_path: Path) -> None:
    """Only the second of two is asked; both end behind the step in which it was, and go on from there."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += [str(Path(__file__).with_name("stopping.py")), str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_LOG_LEVEL": "error"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    said = "the run ended after step 3; the same call goes on from there"
    assert [(tmp_path / "two" / f"ended-{process}").read_text() for process in (0, 1)] == [said, said]
    assert checkpoints(tmp_path / "two") == ["step-00000003", "step-00000008"]
    expected = tiny.run(tmp_path / "one", checkpoint_every=100)
    for name, value in tiny.final(tmp_path / "two").items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-5)
