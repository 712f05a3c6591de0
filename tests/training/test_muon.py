"""Muon against PyTorch's own, and what its update is."""

from __future__ import annotations

import pytest
import torch

from interlace import hardware
from interlace.training import muon
from interlace.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(6, 16), (16, 6), (8, 8)])
def test_the_update_is_near_orthogonal(shape: tuple[int, int]) -> None:
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    seen = u.mT @ orthogonalise(x, torch.float32) @ v.mT  # in the directions that it had
    values = seen.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(seen, values.diag_embed(), atol=1e-4, rtol=0)
    assert values.min() > 0.4 and values.max() < 1.3


@pytest.mark.parametrize("shape", [(6, 16), (16, 6)])
@pytest.mark.parametrize("fast", [True, False])
def test_it_steps_as_that_of_pytorch(shape: tuple[int, int], fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 within that type's rounding, as theirs is; and in float32 within theirs."""
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: fast)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine = Muon([ours], lr=0.1, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    assert (ours - start).abs().mean() > 0.02
    torch.testing.assert_close(ours, theirs, atol=6e-3, rtol=0)
    torch.testing.assert_close(mine.state[ours]["momentum_buffer"], other.state[theirs]["momentum_buffer"])


@pytest.mark.parametrize(("told", "expected"), [((False, False), False), ((True, False), True), ((False, True), True)])
def test_x86_processors_need_instructions_for_bfloat16(
    told: tuple[bool, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for name, value in zip(("avx512_bf16", "amx_tile"), told, strict=True):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda v=value: v)
    assert hardware.fast_bfloat16("cpu") is expected


def test_it_orthogonalises_in_the_type_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 the same, whatever the processor is fast at."""
    gradient = torch.randn(6, 16, generator=torch.Generator().manual_seed(2))

    def stepped(fast: bool, dtype: torch.dtype | None) -> torch.Tensor:
        monkeypatch.setattr(muon, "fast_bfloat16", lambda device: fast)
        weight = torch.nn.Parameter(torch.zeros(6, 16))
        weight.grad = gradient.clone()
        Muon([weight], lr=0.1, dtype=dtype).step()
        return weight.detach()

    exact = stepped(False, None)
    assert torch.equal(stepped(True, torch.float32), exact) and not torch.equal(stepped(True, None), exact)
