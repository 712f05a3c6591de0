"""Code that its tests accept."""

from __future__ import annotations

import re

from pydantic import Field

from .protocol import Checks, Verdict
from .sandbox import run

__all__ = ["Tests", "code"]

_FENCE = re.compile(r"^```[ \t]*(\w*)[ \t]*$", re.MULTILINE)


class Tests(Checks):
    """Prefix, completion and ``tests`` together are a Python program that runs to its end, within ``seconds``.

    ``prefix``: what stands before the completion, the prompt where it is not given; ``""`` for a prompt in prose. A
    program that leaves early is not right. Of a completion with a fenced block, as chats have it, the block is taken.

    >>> Tests(tests="assert double(4) == 8")("def double(x):", " return 2 * x")
    Verdict(right=True, said='passed')
    """

    __test__ = False  # not pytest's

    tests: str | tuple[str, ...] = Field(min_length=1)
    prefix: str | None = None
    seconds: float = Field(5.0, gt=0, le=3600, allow_inf_nan=False)

    def __call__(self, prompt: str, completion: str) -> Verdict:
        prefix = prompt if self.prefix is None else self.prefix
        tests = self.tests if isinstance(self.tests, str) else "\n".join(self.tests)
        said = run(f"{prefix}{code(completion)}\n{tests}\n", self.seconds)
        return Verdict(not said, said or "passed")

    @property
    def shown(self) -> str | None:
        return None


def code(completion: str) -> str:
    """What of a completion is code: the first fenced block (on a line of its own), or what stands before a lone fence.

    >>> code("Here it is:\\n```python\\nx = 1\\n```\\nThat is all.")
    '\\nx = 1'
    >>> code("    return x\\n```\\nIt returns x.")
    '    return x\\n'
    """
    fences = list(_FENCE.finditer(completion))
    if not fences:
        return completion
    first = fences[0]
    if len(fences) == 1 and not first[1] and completion[: first.start()].strip():
        return completion[: first.start()]
    end = fences[1].start() - 1 if len(fences) > 1 else len(completion)
    return completion[first.end() : end]
