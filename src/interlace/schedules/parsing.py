"""A schedule from one line of text, as the command line and the recipes write it: ``name:setting=value,...``."""

from __future__ import annotations

import functools
import re
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..discovery import kebab, parts
from ..errors import SettingError
from ..grid import Schedule

__all__ = ["parse_schedule", "schedule_text", "schedules"]

_FOLDER = __name__.rpartition(".")[0]


@functools.cache
def schedules() -> dict[str, type[Any]]:
    """The schedules of this folder by name.

    >>> schedules()["diagonal"](steps=4, window=3, lag=2)
    Diagonal(steps=4, window=3, lag=2)
    """
    return parts(_FOLDER, Schedule)


def _usage(cls: Any) -> str:
    settings = ",".join(f"{f.name}={_written(get_type_hints(cls)[f.name])[0]}" for f in fields(cls))
    return f"{kebab(cls)}:{settings}" if settings else kebab(cls)


def _written(kind: Any) -> tuple[str, str]:
    """How a value of this type is written: for people, and as an expression."""
    if get_origin(kind) is Literal:
        return "/".join(get_args(kind)), "|".join(get_args(kind))
    return ("N", r"-?\d+") if kind is int else ("N+N+...", r"-?\d+(\+-?\d+)*")


def parse_schedule(text: str) -> Schedule:
    """The schedule that a line names; ``SettingError`` says what is wrong with the line and what is known.

    >>> parse_schedule("diagonal:steps=4,window=3,lag=2")
    Diagonal(steps=4, window=3, lag=2)
    >>> parse_schedule("token-by-token")
    TokenByToken()
    >>> parse_schedule("successive:sizes=3+4+9,steps=2+1+1")
    Successive(sizes=(3, 4, 9), steps=(2, 1, 1))
    """
    name, _, rest = text.strip().partition(":")
    known = schedules()
    if name not in known:
        usages = " | ".join(map(_usage, known.values()))
        raise SettingError(f"unknown schedule {name!r}; known: {usages}")
    cls = known[name]
    hints = get_type_hints(cls)
    kinds = {f.name: hints[f.name] for f in fields(cls)}
    settings: dict[str, int | str | tuple[int, ...]] = {}
    for part in rest.split(",") if rest else []:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in kinds or key in settings or not re.fullmatch(_written(kinds[key])[1], value):
            raise SettingError(f"{part.strip()!r} is no setting of the schedule {name}; write {_usage(cls)}")
        if get_origin(kinds[key]) is Literal:
            settings[key] = value
        else:
            settings[key] = int(value) if kinds[key] is int else tuple(map(int, value.split("+")))
    missing = [f.name for f in fields(cls) if f.name not in settings and f.default is MISSING]
    if missing:
        raise SettingError(f"the schedule {name} lacks {', '.join(missing)}; write {_usage(cls)}")
    schedule: Schedule = cls(**settings)
    return schedule


def schedule_text(schedule: Schedule) -> str:
    """The line that ``parse_schedule`` reads back as this schedule; ``repr`` of a schedule from elsewhere.

    >>> schedule_text(parse_schedule("diagonal:lag=2,steps=4,window=3"))
    'diagonal:steps=4,window=3,lag=2'
    """
    cls: Any = type(schedule)
    if cls not in schedules().values():
        return repr(schedule)
    values = ((f.name, getattr(schedule, f.name)) for f in fields(cls))
    settings = ",".join(f"{n}={'+'.join(map(str, v)) if isinstance(v, tuple) else v}" for n, v in values)
    return f"{kebab(cls)}:{settings}" if settings else kebab(cls)
