"""What a text must match, apart from any model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from ..errors import SettingError
from .automaton import Automaton, lifted
from .expression import compiled
from .kept import Kept
from .schema import expression
from .vocabulary import Vocabulary

__all__ = ["Constraint", "json_schema", "regex"]


@dataclass(frozen=True)
class Constraint:
    """The texts that ``pattern`` matches from end to end. name: what messages call it."""

    pattern: str
    name: str

    def over(self, vocabulary: Vocabulary) -> Automaton:
        """The automaton over the tokens of a vocabulary; made once for both.

        Raises ``SettingError`` when the vocabulary cannot spell any such text.
        """
        return _over.get((self, vocabulary), lambda: lifted(compiled(self.pattern), vocabulary.words, self.name))

    def known(self, vocabulary: Vocabulary) -> bool:
        """Whether ``over`` has nothing left to do."""
        return (self, vocabulary) in _over

    def keep(self, vocabulary: Vocabulary, automaton: Automaton) -> None:
        """What ``over`` gives from now on; it was made elsewhere."""
        _over.put((self, vocabulary), automaton)


def regex(pattern: str) -> Constraint:
    """Texts that a regular expression matches from end to end, as ``re.fullmatch`` reads it.

    Raises ``SettingError`` for what ``re`` does not read, and for what is no regular expression in the strict sense:
    lookaround, references to groups, borders of words.

    >>> regex("[0-9]{4}-[01][0-9]").pattern
    '[0-9]{4}-[01][0-9]'
    """
    if not isinstance(pattern, str):
        raise SettingError(f"the pattern is {pattern!r}; pass a text")
    compiled(pattern)
    return Constraint(pattern, f"the pattern {pattern if len(pattern) <= 60 else pattern[:57] + '...'!r}")


def json_schema(schema: str | Mapping[str, Any]) -> Constraint:
    """Texts that are JSON and fit a JSON schema, given as JSON or as what JSON stands for.

    On one line, with at most one space behind a comma or colon, properties in the schema's order. Every such text
    fits the schema; not every text that fits it is one (see ``schema.expression``).

    Raises ``SettingError`` for what is no schema, and for what no regular expression can hold.

    >>> json_schema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}).name
    'the JSON schema'
    """
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        key = blake2b(text.encode("utf-8", "surrogatepass")).digest()
    except (TypeError, ValueError, RecursionError):  # reading it says what is wrong
        return _of_schema(schema)
    return _schemas.get(key, lambda: _of_schema(schema))


def _of_schema(schema: str | Mapping[str, Any]) -> Constraint:
    pattern = expression(schema)
    compiled(pattern)
    return Constraint(pattern, "the JSON schema")


_schemas: Kept[Constraint] = Kept(lambda found: len(found.pattern), 256)
_over: Kept[Automaton] = Kept(lambda found: found.bytes)
