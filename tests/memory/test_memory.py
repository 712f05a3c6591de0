"""What of the past is kept: peek, append, truncate and keep, and what they leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interlace.errors import SettingError
from interlace.memory import ExactKV, Recompute


def exact(rows: int = 2, capacity: int = 6) -> ExactKV:
    return ExactKV(layers=2, rows=rows, kv_heads=1, head_dim=2, capacity=capacity)


def numbers(rows: int, n: int, start: float) -> Tensor:
    """Keys [rows, 1, n, 2] that tell rows and tokens apart."""
    return start + 100 * torch.arange(rows).view(rows, 1, 1, 1) + torch.arange(n).view(1, 1, n, 1) + torch.zeros(2)


def write(memory: ExactKV, layer: int, x: Tensor, starts: list[int]) -> tuple[Tensor, Tensor]:
    n = x.shape[2]
    memory.open([start + n for start in starts])
    return memory.write(layer, x, -x, torch.tensor(starts)[:, None] + torch.arange(n))


def test_a_forward_reads_what_is_committed_and_what_it_writes() -> None:
    memory = exact()
    first, second = numbers(2, 2, 10.0), numbers(2, 3, 20.0)
    k, v = write(memory, 0, first, [0, 0])
    assert torch.equal(k, first) and torch.equal(v, -first)
    memory.commit([2, 2])
    k, v = write(memory, 0, second, [2, 2])
    assert torch.equal(k, torch.cat((first, second), 2)) and torch.equal(v, -k)
    assert memory.lengths == [2, 2]  # a peek: nothing more is kept


def test_a_peek_is_written_over_and_leaves_the_committed_bits_alone() -> None:
    memory = exact()
    write(memory, 0, numbers(2, 3, 10.0), [0, 0])
    write(memory, 1, numbers(2, 3, 50.0), [0, 0])
    memory.commit([3, 3])
    kept = memory.storage[:, :, :, :, :3].clone()
    for peek in range(3):
        for layer in range(2):
            k, _ = write(memory, layer, numbers(2, 2, 1000.0 + peek), [3, 3])
            assert torch.equal(k[:, :, 3:], numbers(2, 2, 1000.0 + peek))
    assert torch.equal(memory.storage[:, :, :, :, :3], kept)


def test_layers_are_kept_apart() -> None:
    memory = exact()
    write(memory, 0, numbers(2, 2, 10.0), [0, 0])
    k, _ = write(memory, 1, numbers(2, 2, 30.0), [0, 0])
    assert torch.equal(k, numbers(2, 2, 30.0))
    assert torch.equal(memory.storage[0, 0, :, :, :2], numbers(2, 2, 10.0))


def test_rows_have_lengths_of_their_own_and_padding_goes_nowhere() -> None:
    memory = exact()
    write(memory, 0, numbers(2, 3, 10.0), [0, 0])
    memory.commit([1, 3])
    x = numbers(2, 2, 20.0)
    assert memory.open([3, 4]) == 4
    slots = torch.tensor([[1, 2], [3, memory.capacity]])  # the second row has one token only
    k, _ = memory.write(0, x, -x, slots)
    assert k[0, 0, :3, 0].tolist() == [10, 20, 21]
    assert k[1, 0, :4, 0].tolist() == [110, 111, 112, 120]


def test_one_row_writes_the_same_as_several() -> None:
    one, two = exact(rows=1), exact(rows=2)
    for memory in (one, two):
        write(memory, 0, numbers(2, 4, 10.0)[: len(memory.lengths)], [1] * len(memory.lengths))
    assert torch.equal(one.storage[:, :, 0], two.storage[:, :, 0])


def test_truncate_forgets_what_is_behind() -> None:
    memory = exact()
    write(memory, 0, numbers(2, 4, 10.0), [0, 0])
    memory.commit([4, 4])
    memory.truncate([2, 9])
    assert memory.lengths == [2, 4]
    k, _ = write(memory, 0, numbers(2, 1, 70.0), [2, 4])
    assert k[0, 0, :3, 0].tolist() == [10, 11, 70]
    assert k[1, 0, :5, 0].tolist() == [110, 111, 112, 113, 170]


def test_keep_forgets_rows_in_the_order_that_is_asked_for() -> None:
    memory = exact(rows=3)
    write(memory, 1, numbers(3, 3, 10.0), [0, 0, 0])
    memory.commit([1, 2, 3])
    memory.keep([2, 0])
    assert memory.lengths == [3, 1]
    k, _ = write(memory, 1, numbers(2, 1, 70.0), [3, 1])
    assert k[0, 0, :4, 0].tolist() == [210, 211, 212, 70]
    assert k[1, 0, :2, 0].tolist() == [10, 170]
    memory.keep([])
    assert memory.lengths == []


def test_storage_is_of_the_dtype_that_is_asked_for() -> None:
    memory = ExactKV(1, 1, 1, 2, 4, dtype=torch.bfloat16)
    assert memory.storage.dtype == torch.bfloat16 and not memory.storage.any()


def test_errors() -> None:
    memory = exact()
    with pytest.raises(SettingError, match=r"7 tokens do not fit a memory of 6; shorten"):
        memory.open([3, 7])
    memory.commit([2, 2])
    with pytest.raises(SettingError, match=r"commit cannot shorten \[2, 2\] to \[3, 1\]; use truncate"):
        memory.commit([3, 1])
    assert memory.lengths == [2, 2]


def test_recompute_keeps_nothing() -> None:
    memory = Recompute(2)
    x = numbers(2, 3, 1.0)
    assert memory.open([3, 2]) == 3 and not memory.keeps and exact().keeps
    k, v = memory.write(0, x, -x, torch.zeros(2, 3, dtype=torch.long))
    assert k is x and torch.equal(v, -x)
    memory.commit([3, 2])
    memory.truncate([0, 0])
    assert memory.lengths == [0, 0]
    memory.keep([1])
    assert memory.lengths == [0]
