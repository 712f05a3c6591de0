"""How the processes of the tests make their engines; imported by them, and so on ``sys.path``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from interlace.engine import Engine
from interlace.errors import CheckpointError

sys.path.insert(0, str(Path(__file__).parent))  # a spawned process knows no package of tests
from tiny import model


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def opened(pause: float = 0.0, deadly: int | None = None, broken: int | None = None, **sizes: int) -> Engine:
    """An engine of a tiny model, which pauses in every move, and which is killed, or raises, in the third move of a row
    with this token in its prompt."""
    plain = Engine.step
    moves: dict[int, int] = {}

    def step(self: Engine) -> Any:
        time.sleep(pause if self.busy else 0.0)
        for number, job in self._jobs.items():
            prompt = job.asked.request.prompt
            if {deadly, broken} & set(prompt):
                moves[number] = moves.get(number, 0) + 1
                if moves[number] == 3:
                    if deadly in prompt:
                        kill()
                    raise RuntimeError("a broken kernel")
        return plain(self)

    Engine.step = step  # type: ignore[method-assign]
    return Engine(model("sdar", block_size=4), **sizes)


def damaged() -> Engine:
    raise CheckpointError("model.safetensors is cut short; download it again")


def killed() -> Engine:
    kill()
    raise AssertionError


def large() -> Engine:
    torch.empty(1 << 48)
    raise AssertionError


def unable() -> Engine:
    raise ZeroDivisionError("nothing\nis divided")
