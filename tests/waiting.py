"""Wait for what another thread or process brings about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LONG = 60.0
"""Seconds after which it will not come."""


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.001)


async def soon(true: Callable[[], bool]) -> None:
    """The same in a loop, which goes on meanwhile."""
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end, "it has not come"
        await asyncio.sleep(0.001)
