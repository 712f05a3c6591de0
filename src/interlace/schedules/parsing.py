"""A schedule from one line of text, as the command line and the recipes write it: ``name:setting=value,...``."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from typing import Any

from ..errors import SettingError
from ..grid import Schedule
from .all_at_once import AllAtOnce
from .behind_prompt import BehindPrompt
from .block_by_block import BlockByBlock
from .diagonal import Diagonal
from .level_by_level import LevelByLevel
from .seeded import Seeded
from .streaming import Streaming
from .token_by_token import TokenByToken

__all__ = ["parse_schedule", "schedule_text"]

_CLASSES: tuple[Any, ...] = (
    TokenByToken,
    BlockByBlock,
    BehindPrompt,
    Seeded,
    Streaming,
    AllAtOnce,
    Diagonal,
    LevelByLevel,
)


def _name(cls: type) -> str:
    """``BlockByBlock`` -> ``block-by-block``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()


def _usage(cls: Any) -> str:
    settings = ",".join(f"{f.name}=N" for f in fields(cls))
    return f"{_name(cls)}:{settings}" if settings else _name(cls)


def parse_schedule(text: str) -> Schedule:
    """The schedule that a line names; ``SettingError`` says what is wrong with the line and what is known.

    >>> parse_schedule("diagonal:steps=4,window=3,lag=2")
    Diagonal(steps=4, window=3, lag=2)
    >>> parse_schedule("token-by-token")
    TokenByToken()
    """
    name, _, rest = text.strip().partition(":")
    known = {_name(cls): cls for cls in _CLASSES}
    if name not in known:
        usages = " | ".join(_usage(cls) for cls in _CLASSES)
        raise SettingError(f"unknown schedule {name!r}; known: {usages}")
    cls = known[name]
    settings: dict[str, int] = {}
    for part in rest.split(",") if rest else []:
        key, _, number = (piece.strip() for piece in part.partition("="))
        if key not in {f.name for f in fields(cls)} or key in settings or not re.fullmatch(r"-?\d+", number):
            raise SettingError(f"{part.strip()!r} is no setting of the schedule {name}; write {_usage(cls)}")
        settings[key] = int(number)
    missing = [f.name for f in fields(cls) if f.name not in settings and f.default is MISSING]
    if missing:
        raise SettingError(f"the schedule {name} lacks {', '.join(missing)}; write {_usage(cls)}")
    schedule: Schedule = cls(**settings)
    return schedule


def schedule_text(schedule: Schedule) -> str:
    """The line that ``parse_schedule`` reads back as this schedule; ``repr`` of a schedule from elsewhere.

    >>> schedule_text(Diagonal(steps=4, window=3, lag=2))
    'diagonal:steps=4,window=3,lag=2'
    """
    if not isinstance(schedule, _CLASSES):
        return repr(schedule)
    settings = ",".join(f"{f.name}={getattr(schedule, f.name)}" for f in fields(schedule))
    return f"{_name(type(schedule))}:{settings}" if settings else _name(type(schedule))
