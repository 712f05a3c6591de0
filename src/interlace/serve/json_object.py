"""Any JSON object, of bounded depth."""

from __future__ import annotations

from ..constraints import Constraint
from ..constraints.schema import CHARACTER, COLON, COMMA

__all__ = ["DEPTH", "JSON_OBJECT"]

DEPTH = 2
"""Objects and lists inside the object: JSON of any depth is no regular expression."""

_STRING = f'"{CHARACTER}*"'
_PLAIN = rf"(?:{_STRING}|-?(?:0|[1-9][0-9]{{0,17}})(?:\.[0-9]{{1,17}})?(?:[eE][+-]?[0-9]{{1,3}})?|true|false|null)"


def _object(value: str) -> str:
    pair = f"{_STRING}{COLON}{value}"
    return rf"\{{(?:{pair}(?:{COMMA}{pair})*)?\}}"


def _pattern(depth: int) -> str:
    value = _PLAIN
    for _ in range(depth):
        value = rf"(?:{_PLAIN}|\[(?:{value}(?:{COMMA}{value})*)?\]|{_object(value)})"
    return _object(value)


JSON_OBJECT = Constraint(_pattern(DEPTH), "a JSON object")
"""What ``response_format`` ``json_object`` holds a text to."""
