"""interlace inspect"""

from __future__ import annotations

from dataclasses import asdict

from .command import Setting, command
from .console import print_json


@command(
    Setting("path", str, "a folder, a Hugging Face name, or a bundled model: base, twin", place=True, required=True),
    panel="Look",
)
def inspect(path: str, json: bool) -> None:
    """Say what a checkpoint is: its format, shape, size, block size and mask token.

    The files are checked like for loading, except for the values of the weights.

    [bold]Examples[/bold]
      interlace inspect base
      interlace inspect Qwen/Qwen3-0.6B --json
    """
    from ..checkpoints import summary
    from ..model import locate

    found = summary(locate(path))
    if json:
        print_json(asdict(found))
    else:
        print(found)
