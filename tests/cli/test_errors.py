"""Whatever goes wrong: a line, a status, no traceback unless it is asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from interlace.cli.command import leader, reported
from interlace.errors import DataError


def test_an_error_is_one_line_and_status_2(capsys: Any) -> None:
    with pytest.raises(typer.Exit) as stopped, reported():
        raise DataError("one\n  two; three")
    assert stopped.value.exit_code == 2
    assert capsys.readouterr().err == "error: one two; three\n"


def test_debug_shows_where(call: Any, tmp_path: Path) -> None:
    result = call("inspect", tmp_path / "none", "--debug")
    assert (
        result.exit_code == 2 and "Traceback" in result.stderr and result.stderr.splitlines()[-1].startswith("error: ")
    )


def test_an_interrupt_is_130(capsys: Any) -> None:
    with pytest.raises(typer.Exit) as stopped, reported():
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130 and capsys.readouterr().err == "stopped\n"


def test_a_defect_of_ours_is_no_error_of_the_user() -> None:
    with pytest.raises(ZeroDivisionError), reported():
        raise ZeroDivisionError


def test_other_processes_say_who_they_are(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not leader()
    with pytest.raises(typer.Exit), reported():
        raise DataError("a; b")
    assert capsys.readouterr().err == "error (process 1): a; b\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    """As many lines as fill every buffer, and a reader that takes one of them."""
    code = """
import typer
from interlace.cli.command import app, command
@command(panel="Look", json=False)
def talk():
    "Talk."
    for number in range(200_000):
        print(number)
app(["talk"])
"""
    talker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert talker.stdout is not None and talker.stderr is not None
    assert talker.stdout.readline() == "0\n"
    talker.stdout.close()
    assert talker.wait(60) == 141
    assert talker.stderr.read() == ""
    talker.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generat"], "no such command 'generat'; did you mean 'generate'?"),
        (["zzz"], "no such command 'zzz'; see interlace --help"),
        (["--verion"], "no such option: --verion; did you mean --version?"),
        (["generate", "--lenght", "3"], "no such option: --lenght; did you mean --length?"),
        (["show", "sdar", "--zzzzzz"], "no such option: --zzzzzz; see interlace show --help"),
        (["generate", "-q"], "no such option: -q; see interlace generate --help"),
        (["generate", "--length"], "option '--length' requires an argument; see interlace .*--help"),
        (["systems", "all"], r"got unexpected extra argument\S* \(all\); see interlace systems --help"),
        (["generate", "--length", "many"], "invalid value for '--length' .*; see interlace generate --help"),
    ],
)
def test_words_that_are_none(arguments: list[str], said: str, fails: Any) -> None:
    message = fails(*arguments)
    assert message == said or re.fullmatch(said, message), message


def test_no_words_at_all_are_a_question(call: Any) -> None:
    result = call()
    assert "Usage" in result.output and "error:" not in result.output


def test_claims_are_checked_by_name_or_all(
    call: Any, fails: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import interlace.claims
    from interlace.claims import Arm, Findings, Record
    from interlace.claims.protocol import Machine

    asked: list[tuple[Any, ...]] = []

    def run(name: str, out: str, seed: int, docs: str) -> Record:
        asked.append((name, out, seed, docs))
        findings = Findings(
            arms={"base": Arm(numbers={"exact": 0.5}, steps=10), "adapted": Arm(numbers={"exact": 0.75})},
            baseline="base",
            conditions={"better than base": True, "twice as fast": False},
            why="small models",
            seeds=[seed],
        )
        machine = Machine(cpu="a cpu", cores=2, torch="2", python="3", threads=1)
        return Record(
            system=name, title=name.upper(), paper="a paper", claim="it is better", reproduced_if="it is",
            findings=findings, verdict="in part", machine=machine, seconds=12, date="2026-01-01", version="0",
        )  # fmt: skip

    monkeypatch.setattr(interlace.claims, "reproduce", run)
    monkeypatch.setattr(interlace.claims, "checks", lambda: ["acdit", "sdar"])
    shown = call("reproduce", "sdar", "--out", tmp_path, "--seed", 3)
    assert shown.exit_code == 0, shown.output
    for part in (
        "the paper      it is better",
        "base (baseline)",
        "0.750",
        "no   twice as fast",
        "in part: small models",
    ):
        assert part in shown.stdout, part
    rows = [json.loads(line) for line in call("reproduce", "--all", "--json").stdout.splitlines()]
    assert [row["system"] for row in rows] == ["acdit", "sdar"] and rows[0]["verdict"] == "in part"
    assert asked == [("sdar", str(tmp_path), 3, "docs/claims.md"), *(
        (name, "results", 0, "docs/claims.md") for name in ("acdit", "sdar")
    )]  # fmt: skip
    assert "pass a name or --all; those with a check: acdit, sdar" in fails("reproduce")
    assert "pass a name or --all" in fails("reproduce", "sdar", "--all")


def test_the_quickstart_gets_its_settings(
    call: Any, fails: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import interlace.quickstart

    given: list[Any] = []

    def run(settings: Any, terminal: Any = None) -> dict[str, Any]:
        given.append((settings, terminal))
        return {"answer": 42}

    monkeypatch.setattr(interlace.quickstart, "quickstart", run)
    result = call("quickstart", "--seconds", 30, "--thresholds", "0.9,0.5", "--out", tmp_path, "--json")
    assert json.loads(result.stdout) == {"answer": 42}
    assert given[0][0].seconds == 30 and given[0][0].thresholds == (0.9, 0.5) and given[0][1].console.stderr
    assert call("quickstart").stdout == "" and given[1] == (interlace.quickstart.QuickstartSettings(), None)
    assert fails("quickstart", "--prompts", 1) == "--prompts is 1; pass 2 or more"
