"""What is to be continued or filled: from an argument, a file, token ids or stdin."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, InterlaceError, SettingError
from ..jsonl import read_objects
from .constraining import constraint

if TYPE_CHECKING:
    from ..constraints import Constraint

__all__ = ["Gap", "Prompt", "gaps", "prompts", "token_ids"]

ALONE = ("length", "seed", "regex", "json_schema")
HOLE = re.compile(r"<FILL(?::(\d+))?>")


@dataclass(frozen=True)
class Prompt:
    """A text, or token ids; and what its line of a file says for this row alone."""

    content: str | list[int]
    length: int | None = None
    seed: int | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Gap:
    """What stands before a hole and behind it."""

    prefix: str | list[int]
    suffix: str | list[int]
    length: int | None = None
    seed: int | None = None
    constraint: Constraint | None = None


def prompts(text: str | None, file: str | None, tokens: str | None) -> list[Prompt]:
    """The rows to continue; stdin is one prompt, without the line end at its end.

    Raises ``SettingError`` for none or several sources, ``DataError`` for a file that cannot be used.
    """
    _one_of({"PROMPT": text, "--file": file, "--tokens": tokens})
    if text is not None:
        return [Prompt(text)]
    if tokens is not None:
        return [Prompt(ids) for ids in token_ids(tokens, "--tokens")]
    if file is None:
        return [Prompt(_stdin("no prompt; pass one, --file, --tokens, or text on stdin"))]
    if not _is_lines(file):
        lines = _read(file).splitlines()
        if not any(lines):
            raise DataError(f"{file} is empty; put a prompt on every line")
        return [Prompt(line) for line in lines if line]
    rows = []
    for where, row in _rows(file, ("prompt", "tokens", *ALONE)):
        rows.append(Prompt(_either(where, row, "prompt", "tokens"), *_alone(where, row)))
    return rows


def gaps(
    text: str | None, file: str | None, prefix: str | list[int] | None, suffix: str | list[int] | None
) -> list[Gap]:
    """The holes to fill. A text has one hole, written ``<FILL>`` or ``<FILL:24>``. Raises like ``prompts``."""
    _one_of({"TEXT": text, "--file": file, "--prefix and --suffix": prefix if prefix is not None else suffix})
    if prefix is not None or suffix is not None:
        return [Gap(prefix if prefix is not None else "", suffix if suffix is not None else "")]
    if file is not None and _is_lines(file):
        rows = []
        for where, row in _rows(file, ("prefix", "suffix", "prefix_tokens", "suffix_tokens", *ALONE)):
            before, after = (_either(where, row, side, f"{side}_tokens") for side in ("prefix", "suffix"))
            rows.append(Gap(before, after, *_alone(where, row)))
        return rows
    if text is None:
        text = (
            _read(file) if file is not None else _stdin("nothing to fill; pass TEXT, --file, or --prefix and --suffix")
        )
    holes = list(HOLE.finditer(text))
    if len(holes) != 1:
        found = f"{len(holes)} holes" if holes else "no hole"
        raise SettingError(f"the text has {found}; mark one with <FILL:24>, the number of its tokens")
    hole = holes[0]
    return [Gap(text[: hole.start()], text[hole.end() :], int(hole[1]) if hole[1] else None)]


def token_ids(text: str, flag: str) -> list[list[int]]:
    """Rows of token ids: ``1 2 3``, ``1,2,3``, ``[1, 2, 3]``, or several rows as a JSON list of lists.

    >>> token_ids("1 2 3", "--tokens"), token_ids("[[1], [2, 3]]", "--tokens")
    ([[1, 2, 3]], [[1], [2, 3]])
    """
    try:
        found = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [int(part) for part in re.split(r"[\s,]+", text) if part]
        )
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list) and _are_ids(found):
        return [found]
    if isinstance(found, list) and all(isinstance(row, list) and _are_ids(row) for row in found):
        return found
    raise SettingError(f"{flag} {text!r} are no token ids; write 1 2 3, or a JSON list")


def _are_ids(row: Iterable[Any]) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**63 for one in row)


def _one_of(given: Mapping[str, Any]) -> None:
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise SettingError(f"{' and '.join(names)} exclude each other; pass one of them")


def _is_lines(file: str) -> bool:
    return Path(file).suffix in (".jsonl", ".ndjson")


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{file} is not UTF-8; convert it, e.g. with iconv -t UTF-8") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check the path and its permissions") from None


def _stdin(missing: str) -> str:
    if sys.stdin.isatty():
        raise SettingError(missing)
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise DataError("stdin is not UTF-8; convert it, e.g. with iconv -t UTF-8") from None


def _rows(file: str, known: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) for every line of a JSON-lines file; unknown keys are refused."""
    for where, _, row in read_objects(file, known[0]):
        for key in row:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1, 0.5)
                remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise DataError(f"{where}: unknown key {key!r}; {remedy}")
        yield where, row


def _either(where: str, row: dict[str, Any], text: str, tokens: str) -> str | list[int]:
    """The one of both that a row has."""
    if (text in row) == (tokens in row):
        raise DataError(f"{where}: pass {text!r} or {tokens!r}, one of them")
    if text in row and isinstance(row[text], str):
        return str(row[text])
    if tokens in row and isinstance(row[tokens], list) and _are_ids(row[tokens]):
        return list(row[tokens])
    raise DataError(
        f"{where}: {text!r} is a text and {tokens!r} a list of token ids; got {row.get(text, row.get(tokens))!r}"
    )


def _alone(where: str, row: dict[str, Any]) -> tuple[int | None, int | None, Constraint | None]:
    """Length, seed and constraint of a row, where it says them."""
    pattern, schema = row.get("regex"), row.get("json_schema")
    if pattern is not None and not isinstance(pattern, str):
        raise DataError(f"{where}: 'regex' is a text; got {pattern!r}")
    if schema is not None and not isinstance(schema, dict):
        raise DataError(f"{where}: 'json_schema' is an object; got {schema!r}")
    try:
        held = constraint(pattern, None if schema is None else json.dumps(schema))
    except InterlaceError as error:
        raise DataError(f"{where}: {error}") from None
    return _number(where, row, "length"), _number(where, row, "seed"), held


def _number(where: str, row: dict[str, Any], key: str) -> int | None:
    value = row.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise DataError(f"{where}: {key!r} is a whole number; got {value!r}")
    return value
