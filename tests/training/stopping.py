"""A run of two processes of which the second is asked to end in its third step, and after it the rest of that run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiny
import torch
from safetensors.torch import save_file

from interlace.training.loop import train


class Asking(tiny.Counting):
    def batch(self, numbers: Sequence[int]) -> Any:
        if os.environ["RANK"] == "1" and 16 <= numbers[0] < 24:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # a launcher passes on what the terminal has sent to all
        return super().batch(numbers)


def main(out: Path) -> None:
    settings = tiny.settings(out, checkpoint_every=100)
    try:
        train(tiny.network(), tiny.OBJECTIVES["next token"], Asking(), settings, tiny.Counting(first=1000))
    except KeyboardInterrupt as ended:
        (out / f"ended-{os.environ['RANK']}").write_text(str(ended))
    weights = tiny.run(out, checkpoint_every=100)
    if os.environ["RANK"] == "0":
        save_file(weights, out / "final.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
