"""The command line: a file per command, and nothing else is imported before a command runs."""

from __future__ import annotations

from importlib import import_module

from .command import COMMANDS, app

__all__ = ["COMMANDS", "app", "main"]

_ORDER = "quickstart generate infill sample train adapt continuing train_clips evaluate reproduce show systems inspect"
for _name in _ORDER.split():
    import_module(f".{_name}", __name__)


def main() -> None:
    """Run ``interlace`` with the arguments of the process."""
    app(prog_name="interlace")
