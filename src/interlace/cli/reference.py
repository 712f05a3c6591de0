"""The reference page of the command line, out of the commands themselves: ``python -m interlace.cli.reference``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import COMMANDS
from .command import Command, Setting

__all__ = ["page"]

HEAD = """# cli

The command line. Results go to stdout; progress and remarks go to stderr. An error of yours is one line, cause and
remedy, with status 2 (`--debug` shows where it comes from); an interrupt is 130; all else that fails is 1.

`--config` reads options from a TOML or JSON file, one key for every option, with `_` for `-` (`batch_rows = 8`).
Unknown keys are refused. Options on the command line win. `--print-config` prints such a file.

This page is written by `python -m interlace.cli.reference > docs/reference/cli.md`.
"""


def page() -> str:
    """The page, in Markdown."""
    return HEAD + "".join(_section(command) for command in COMMANDS.values())


def _section(command: Command) -> str:
    text, _, rest = command.help.partition("[bold]Examples[/bold]\n")
    examples, _, after = rest.partition("\n\n")
    lines = [f"\n## {command.name}\n", _plain(text) + "\n"]
    if examples:
        calls = "\n".join(f"$ {line.strip()}" for line in examples.splitlines())
        lines.append(f"```console\n{calls}\n```\n")
    if after.strip():
        lines.append(_plain(after) + "\n")
    for panel in dict.fromkeys(s.panel for s in command.settings):
        mine = [s for s in command.settings if s.panel == panel]
        if panel == "Everywhere":
            continue
        lines.append(_table(panel or "Options", mine))
    named = [f"`{s.flag}`" for s in command.settings if s.panel == "Everywhere"]
    lines.append(f"And {', '.join(named)}.\n")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Help without its markup, and with what Markdown would take for markup escaped."""
    return re.sub(r"\[/?\w+\]", "", text).strip().replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*")


def _table(title: str, settings: Sequence[Setting]) -> str:
    rows = [f"| {title} | | default |", "|---|---|---|"]
    for s in settings:
        names = [s.flag, *([s.short] if s.short else [])]
        default = "required" if s.required else s.otherwise
        shown = f"`{default}`" if default and s.shown is None and not s.required else default
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {_plain(s.help)} | {shown} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(page(), end="")
