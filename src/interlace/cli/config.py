"""Settings from a file, and settings as a file: one flat table, a key for every option, the same word as the option."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import DataError, SettingError, amiss, nearest
from .command import Setting

__all__ = ["make", "read", "toml"]

M = TypeVar("M", bound=BaseModel)


def read(path: str, settings: Sequence[Setting]) -> dict[str, Any]:
    """The values of a TOML file, or of a JSON file by its name ``*.json``.

    Raises ``DataError`` for a file that cannot be read, ``SettingError`` for a key that no option has (the nearest one
    is named) and for a value of the wrong type.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise DataError(f"{path} cannot be read ({why}); pass a TOML or JSON file of settings") from None
    try:
        found = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.endswith(".json") else "TOML"
        raise DataError(f"{path} is not {kind} ({error}); --print-config prints a file to start from") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no table of settings; --print-config prints a file to start from")
    known = {s.name: s for s in settings if s.file}
    values = {}
    for key, value in found.items():
        if key not in known:
            raise SettingError(f"{path}: unknown setting {key!r}; {nearest(key, known)}")
        try:
            values[key] = TypeAdapter(known[key].type).validate_python(value)
        except ValidationError as error:
            raise SettingError(f"{path}: {amiss(key, error.errors()[0])}") from None
    return values


def toml(settings: Sequence[Setting], values: Mapping[str, Any]) -> str:
    """Values as a file that ``read`` reads back; those that are left open stand in it as comments."""
    lines = []
    for s in settings:
        if not s.file:
            continue
        lines.append(f"# {' '.join(s.help.split())}")
        value = values[s.name]
        if value is None:
            lines.append(f"# {s.name} = {f'  # {s.shown}' if s.shown else ''}".rstrip())
        else:
            # JSON's words for numbers that are none are not TOML's
            written = str(value) if isinstance(value, float) and not math.isfinite(value) else json.dumps(value)
            lines.append(f"{s.name} = {written}")
    return "\n".join(lines) + "\n"


def make(model: type[M], values: Mapping[str, Any]) -> M:
    """Settings of that kind from those of the values that belong to them. ``SettingError`` names the option."""
    mine = {k: v for k, v in values.items() if k in model.model_fields and v is not None}
    try:
        return model(**mine)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise SettingError(amiss(f"--{name.replace('_', '-')}", first)) from None
