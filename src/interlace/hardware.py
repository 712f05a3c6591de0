"""What a device computes fast, and what it has room for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["fast_bfloat16", "free_memory", "peak_memory"]


def free_memory(device: str | torch.device) -> int:
    """Bytes that can still be allocated; of a device that does not say, those of the machine.

    >>> free_memory("cpu") > 0
    True
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:  # caches of files give way: free pages alone would be far too few
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def peak_memory(device: torch.device) -> Callable[[], int | None]:
    """Starts to watch a device; when called: what was allocated on it at most since then, beyond what lay there.

    In bytes; None of a device that does not say: a CPU.

    >>> peak_memory(torch.device("cpu"))() is None
    True
    """
    if device.type != "cuda":
        return lambda: None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    return lambda: int(torch.cuda.max_memory_allocated(device)) - before


def fast_bfloat16(device: str | torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices at least as fast as float32 ones.

    x86 processors need AVX-512-BF16 or AMX for it: others unpack every number, and are several times slower than in
    float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] >= 8
    if kind != "cpu":
        return True
    if "AVX" in torch.backends.cpu.get_cpu_capability() or torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        told = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
        return any(ask is not None and ask() for ask in told)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
