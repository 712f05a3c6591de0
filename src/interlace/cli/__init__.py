"""The command line: a file per command, and nothing else is imported before a command runs."""

from __future__ import annotations

from importlib import import_module

from .command import COMMANDS, app

__all__ = ["COMMANDS", "app", "main"]

# Every command, in the order of --help.
for _name in ("generate", "infill", "train", "adapt", "evaluate", "reproduce", "show", "systems", "inspect"):
    import_module(f".{_name}", __name__)


def main() -> None:
    """Run ``interlace`` with the arguments of the process."""
    app(prog_name="interlace")
