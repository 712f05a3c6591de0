"""How long ``import interlace`` and ``interlace --help`` take, in fresh processes; best of several."""

from __future__ import annotations

import subprocess
import sys
import time


def best(command: list[str], rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    empty = best([sys.executable, "-c", "pass"])
    print(f"import interlace    {best([sys.executable, '-c', 'import interlace']) - empty:.3f} s (goal 0.3)")
    print(f"interlace --help    {best([sys.executable, '-m', 'interlace', '--help']):.3f} s (goal 0.5)")
