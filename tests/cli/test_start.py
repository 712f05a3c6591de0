"""Starting is quick: nothing heavy is imported for a question of words."""

from __future__ import annotations

import json
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
    ("arguments", "but"),
    [(["--help"], []), (["adapt", "--help"], ["pydantic"]), (["show", "--help"], ["pydantic"])],
    ids=["help", "help of adapt", "help of show"],
)
def test_help_imports_nothing_heavy(arguments: list[str], but: list[str]) -> None:
    """What it takes is measured by benchmarks/start.py; what makes it long is known here."""
    code = f"""
import io, json, sys
sys.argv, out = ["interlace", *{arguments!r}], sys.stdout
sys.stdout = io.StringIO()
from interlace.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
told, sys.stdout = sys.stdout.getvalue(), out
print(json.dumps(["Usage: interlace" in told, *(name for name in {HEAVY!r} if name in sys.modules)]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == [True, *but]


def test_the_version_is_the_packages() -> None:
    import interlace

    found = subprocess.run([sys.executable, "-m", "interlace", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["interlace", interlace.__version__]
