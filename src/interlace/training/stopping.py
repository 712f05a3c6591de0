"""A run that is asked to end: behind a step, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

__all__ = ["Asked"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AS_USUAL = (signal.SIG_DFL, signal.default_int_handler)


class Asked:
    """True when SIGINT or SIGTERM has come inside ``with``; a second one does what the first would have done before.

    Signals that are ignored (a job in the background), or that the program handles itself, are left alone; so are all
    of them outside the main thread. ``echo``: seconds in which a second signal counts as the first, because launchers
    of several processes pass on what the terminal has sent to every process already. ``loud``: say that it was heard.

    >>> with Asked() as asked:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     bool(asked)
    True
    """

    def __init__(self, echo: float = 0.0, loud: bool = False) -> None:
        self.echo, self.loud = echo, loud
        self.since: float | None = None
        self.before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.since is not None

    def __enter__(self) -> Asked:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) in _AS_USUAL:
                    self.before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        while self.before:
            signal.signal(*self.before.popitem())

    def _hear(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self.since is None:
            self.since = now
            if self.loud:
                # print is not allowed where it may interrupt another print
                os.write(2, b"\nstopping after this step, with a checkpoint; once more stops at once\n")
        elif now - self.since >= self.echo:
            self.__exit__()
            signal.raise_signal(number)
