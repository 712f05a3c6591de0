"""Starting is quick: nothing heavy is imported for a question of words."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "matplotlib",
    "pydantic",
    "tokenizers",
    "accelerate",
    "rich.live",
    "rich.progress",
)


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = f"""
import sys, json
import interlace.cli
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == []


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        (["-m", "interlace", "--help"], 0.5),
        (["-m", "interlace", "adapt", "--help"], 0.7),
        (["-c", "import interlace"], 0.3),
    ],
    ids=["help", "help of a command", "import"],
)
def test_start_takes_little_time(arguments: list[str], limit: float) -> None:
    """Time of the processor, not of the clock: other programs on the machine are not ours. The best of three runs."""
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if best < limit:
            break
    assert best < limit


def test_the_version_is_the_packages() -> None:
    import interlace

    found = subprocess.run([sys.executable, "-m", "interlace", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["interlace", interlace.__version__]
