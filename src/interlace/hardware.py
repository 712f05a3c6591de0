"""What a device computes fast."""

from __future__ import annotations

import torch

__all__ = ["fast_bfloat16"]


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
