"""The command line: a file per command, and nothing else is imported before a command runs."""

from __future__ import annotations

from importlib import import_module

from .command import COMMANDS, app

__all__ = ["COMMANDS", "app", "main"]

_USE, _TRAIN = "quickstart generate infill serve sample convert", "train adapt reinforce continuing train_clips"
_LOOK = "evaluate compare reproduce layers show systems inspect"
for _name in f"{_USE} {_TRAIN} {_LOOK}".split():
    import_module(f".{_name}", __name__)


def main() -> None:
    """Run ``interlace`` with the arguments of the process."""
    app(prog_name="interlace")
