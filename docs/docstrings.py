"""How the reference shows our docstrings: they are written for a terminal, so two conventions become Markdown.

An example (``>>>``) becomes a code block, and the ``::`` that opens a drawing disappears (the drawing is indented,
which Markdown shows as it stands). Roles such as ``:class:`` leave their name.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


def markdown(text: str) -> str:
    """A docstring as Markdown.

    >>> markdown("One.\\n\\n>>> 1 + 1\\n2\\n\\nTwo, see :class:`Move`.").split("\\n")
    ['One.', '', '```pycon', '>>> 1 + 1', '2', '```', '', 'Two, see `Move`.']
    """
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if not inside and line.startswith(">>>"):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        if line.strip() != "::":
            lines.append(line if inside else re.sub(r":[a-z]+:(`[^`]+`)", r"\1", line))
    if inside:
        while not lines[-1].strip():
            lines.pop()
        lines.append("```")
    return "\n".join(lines)


class Docstrings(griffe.Extension):
    """Applied to every object as it is collected, before its docstring is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
