"""A JSON object that a reader takes fields out of; what is left was not understood, and is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

__all__ = ["REQUIRED", "Fields", "read_json"]

REQUIRED: Any = object()
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", dict: "an object"}


class Fields(dict[str, Any]):
    """The fields of ``origin`` (a file name, for messages) that no reader has taken yet.

    >>> fields = Fields({"hidden_size": 64, "use_cache": True}, "config.json")
    >>> fields.take("hidden_size", int), fields
    (64, {'use_cache': True})
    """

    def __init__(self, values: dict[str, Any], origin: str) -> None:
        super().__init__(values)
        self.origin = origin

    def take(self, name: str, kind: type, default: Any = REQUIRED) -> Any:
        """Remove and return a field; absent or null gives ``default``, or a ``CheckpointError`` if there is none."""
        value = self.pop(name, None)
        if value is None:
            if default is REQUIRED:
                raise CheckpointError(f"{self.origin} has no field {name!r}; add it, or download the file again")
            return default
        right = isinstance(value, (int, float) if kind is float else kind)
        if not right or (isinstance(value, bool) and kind not in (bool, object)):
            shown = _NAMES.get(kind, f"a {kind.__name__}")
            raise CheckpointError(f"{self.origin}: {name!r} is {value!r} and should be {shown}; correct the file")
        return float(value) if kind is float else value


def read_json(file: Path, optional: bool = False) -> dict[str, Any]:
    """The JSON object in a file; ``{}`` for an absent optional one.

    Raises ``CheckpointError`` that names the file if it is missing, unreadable, or holds no JSON object.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if optional:
            return {}
        raise CheckpointError(
            f"{file} is missing; pass a folder with config.json and model.safetensors, as transformers writes it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); download it again") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON ({error}); download it again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} is not a JSON object; download it again")
    return value
