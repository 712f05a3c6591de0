"""The command line: a file per command."""

from __future__ import annotations

# The order is that of --help.
from . import generate, show, systems, train, adapt  # noqa: F401, I001
from .command import app

__all__ = ["app", "main"]


def main() -> None:
    """Run ``interlace`` with the arguments of the process."""
    app(prog_name="interlace")
