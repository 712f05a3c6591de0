"""The errors that a user meets: each names the cause and the remedy, in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import Any


class InterlaceError(Exception):
    """A mistake in what was given (a file, a setting, a request), not in the library.

    The message is one line of the form ``cause; remedy``. The command line prints it without a traceback
    and exits with status 2.

    >>> raise InterlaceError("block_size is 0; pass 1 or more")
    Traceback (most recent call last):
    interlace.errors.InterlaceError: block_size is 0; pass 1 or more
    """


class CheckpointError(InterlaceError):
    """A checkpoint that cannot be read or written as it stands."""


class DataError(InterlaceError):
    """A corpus or a file of data that cannot be used as it stands."""


class SettingError(InterlaceError, ValueError):
    """A setting outside its range, or two settings that contradict each other."""


class EngineError(InterlaceError):
    """A request that an engine could not finish: it failed, was closed, or the model gave no numbers."""


class BusyError(EngineError):
    """More requests than an engine takes; come again later."""


def unwritable(what: object, error: OSError, remedy: str = "pass a path that you may write to") -> DataError:
    """The error of a write that failed; a full disk has a remedy of its own.

    >>> print(unwritable("a.jsonl", PermissionError(13, "Permission denied")))
    a.jsonl cannot be written (Permission denied); pass a path that you may write to
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space"
    return DataError(f"{what} cannot be written ({error.strerror or error}); {remedy}")


def nearest(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the nearest known one, or else all of them.

    >>> nearest("treshold", ["threshold", "steps"]), nearest("colour", ["threshold", "steps"])
    ('did you mean threshold?', 'known: threshold, steps')
    """
    import difflib

    words = list(known)
    near = difflib.get_close_matches(word.replace("-", "_"), words, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(words)}"


def amiss(name: str, error: Mapping[str, Any]) -> str:
    """What is wrong with a setting, and what to pass: one of pydantic's ``ValidationError.errors()`` in our words.

    >>> amiss("temperature", {"type": "greater_than_equal", "ctx": {"ge": 0.0}, "input": -1.0, "msg": "..."})
    'temperature is -1.0; pass 0 or more'
    """
    kind, msg, about = error["type"], str(error["msg"]).removeprefix("Value error, "), error.get("ctx", {})
    if kind == "missing" and not isinstance(error["input"], list | tuple):
        return f"{name} is missing; pass it"
    bound = next((f"{value:g}" for value in about.values() if isinstance(value, int | float)), "")
    expected = str(about.get("pattern", "")).removeprefix("^(").removesuffix(")$").replace("|", " or ")
    remedies = {
        "greater_than_equal": f"pass {bound} or more",
        "greater_than": f"pass more than {bound}",
        "less_than_equal": f"pass {bound} or less",
        "less_than": f"pass less than {bound}",
        "literal_error": f"pass {msg.removeprefix('Input should be ')}",
        "string_pattern_mismatch": f"pass {expected}",
        "too_short": f"pass {bound} or more of them",
        "too_long": f"pass {bound} of them or fewer",
        "missing": "pass more of them",
        "finite_number": "pass a finite number",
    }
    types = {
        "int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text", "list": "a list",
        "tuple": "a list", "dict": "an object", "path": "a path",
    }  # fmt: skip
    remedy = remedies.get(kind) or (f"pass {types[start]}" if (start := kind.split("_")[0]) in types else msg.lower())
    given = repr(error["input"])
    return f"{name} is {given if len(given) <= 80 else given[:77] + '...'}; {remedy}"
