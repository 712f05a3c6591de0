"""What a folder holds: its modules, and the parts among their classes. Nothing lists them; a file is enough."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

from .errors import SettingError

__all__ = ["kebab", "modules", "parts"]


def kebab(kind: type) -> str:
    """The name of a class in a line of text.

    >>> class BlockByBlock: ...
    >>> kebab(BlockByBlock)
    'block-by-block'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


def modules(package: str) -> Iterator[ModuleType]:
    """Every module of a package, imported, by name."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        yield importlib.import_module(f"{package}.{module.name}")


def parts(package: str, protocol: type) -> dict[str, type[Any]]:
    """The dataclasses in a package's files that obey the protocol, by their ``kebab`` names.

    To obey is to have every method of the protocol, with arguments of the same names: what a type checker asks for.
    ``SettingError`` where two files give one name.

    >>> from .reveal import Reveal
    >>> sorted(parts("interlace.reveal", Reveal))[:3]
    ['ancestral', 'damped', 'dependence-bounded']
    """
    found: dict[str, type[Any]] = {}
    for module in modules(package):
        for kind in vars(module).values():
            if isinstance(kind, type) and kind.__module__ == module.__name__ and _obeys(kind, protocol):
                name = kebab(kind)
                if name in found:
                    raise SettingError(f"{found[name].__module__} and {module.__name__} both give {name}; rename one")
                found[name] = kind
    return dict(sorted(found.items()))


def _obeys(kind: type, protocol: type) -> bool:
    public = {n: m for n, m in vars(protocol).items() if n == "__call__" or not n.startswith("_")}
    return is_dataclass(kind) and all(
        inspect.isfunction(mine := getattr(kind, name, None)) and _arguments(mine) == _arguments(method)
        for name, method in public.items()
        if inspect.isfunction(method)
    )


def _arguments(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)
