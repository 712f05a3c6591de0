"""The published systems, one file each. A file of this folder that defines ``SYSTEM`` is one; nothing lists them."""

from __future__ import annotations

import functools

from ..discovery import modules
from ..errors import SettingError
from .system import Claim, Parts, System

__all__ = ["Claim", "Parts", "System", "find", "systems"]


@functools.cache
def systems() -> dict[str, System]:
    """Every system by name.

    >>> "sdar" in systems()
    True
    """
    found: dict[str, System] = {}
    places: dict[str, str] = {}
    for module in modules(__name__):
        system = getattr(module, "SYSTEM", None)
        if not isinstance(system, System) or system in found.values():  # one that another file took over
            continue
        if system.name in found:
            raise SettingError(
                f"{places[system.name]} and {module.__name__} are both systems named {system.name!r}; rename one"
            )
        found[system.name], places[system.name] = system, module.__name__
    return dict(sorted(found.items()))


def find(name: str) -> System:
    """The system of that name; ``SettingError`` lists the known ones."""
    if name not in systems():
        raise SettingError(f"unknown system {name!r}; known: {', '.join(systems())}")
    return systems()[name]
