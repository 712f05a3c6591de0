"""What is compiled chooses as PyTorch's operators do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from interlace import sampling
from interlace.sampling import Candidates, Sampler, best, drawn, library, top

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler")

SIZES = [1, 5, 8, 17, 128, 129, 1000]


def numbers(n: int, seed: int) -> Tensor:
    """Rows with ties, with NaN, with nothing but -infinity."""
    x = torch.randn(6, n, generator=torch.Generator().manual_seed(seed))
    x[1] = x[1].round()
    x[2, n // 2], x[3], x[4, n // 3 :] = float("nan"), float("-inf"), float("nan")
    return x


def plain(monkeypatch: Any) -> None:
    monkeypatch.setattr(sampling, "library", lambda: None)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("seed", range(5))
def test_the_likeliest_and_the_best_are_those_of_the_operators(n: int, seed: int, monkeypatch: Any) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, count = numbers(n, seed), torch.randint(0, n + 2, (6,), generator=generator)
    open = torch.rand(6, n, generator=generator) < 0.6
    compiled = best(x), top(open, x, count)
    plain(monkeypatch)
    assert torch.equal(compiled[0], best(x)) and torch.equal(compiled[1], top(open, x, count))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("seed", range(5))
def test_a_draw_is_that_of_the_operators(n: int, seed: int, monkeypatch: Any) -> None:
    """Sums of double precision are taken in another order: they differ where a number meets a border to 1e-15."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(40, n, generator=generator).mul(3).softmax(-1)
    weights[::2] = weights[::2].where(torch.rand(20, n, generator=generator) < 0.3, 0.0)
    weights[:, -1] += 0.1
    uniform = torch.rand(40, generator=generator)
    uniform[0], uniform[1] = 0.0, 1 - 2**-24
    compiled = drawn(weights, uniform)
    assert (weights.gather(1, compiled[:, None]) > 0).all()
    alone = torch.cat([drawn(one[None], number[None]) for one, number in zip(weights, uniform, strict=True)])
    assert torch.equal(compiled, alone)
    plain(monkeypatch)
    assert torch.equal(compiled, drawn(weights, uniform))


def test_other_numbers_than_rows_of_float32_go_to_the_operators(monkeypatch: Any) -> None:
    x = numbers(17, 0)[:2]
    monkeypatch.setattr(sampling, "library", lambda: pytest.fail("asked for"))
    for other in (x.double(), x.T, x[0], x[:0]):
        assert torch.equal(best(other), other.argmax(-1))


def test_the_likeliest_of_a_draw_shares_its_prediction() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    candidates = Sampler(0.5)(logits, torch.full((4,), 0.99))
    assert candidates.entropy.shape == (4,)
    expected = Candidates(logits.argmax(-1), logits / 0.5)
    assert torch.equal(candidates.best.token, expected.token)
    assert torch.equal(candidates.best.confidence, expected.confidence)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("native", [True, False])
def test_how_sure_a_prediction_is(n: int, native: bool, monkeypatch: Any) -> None:
    """Against the definitions, in double precision; what is excluded (-infinity) adds nothing, NaN is NaN."""
    x = torch.randn(6, n, generator=torch.Generator().manual_seed(n)).mul(4)
    x[1, : n // 2] = float("-inf")
    x[2] += 3e4
    exact = x.double().log_softmax(-1)
    if not native:
        plain(monkeypatch)
    token = torch.arange(6) % n
    found = Candidates(token, x)
    torch.testing.assert_close(
        found.confidence.double(), exact.gather(1, token[:, None])[:, 0].exp(), atol=1e-6, rtol=1e-5
    )
    entropy = -(exact.exp() * exact.clamp_min(-1e4)).sum(-1)
    torch.testing.assert_close(found.entropy.double(), entropy, atol=2e-6, rtol=1e-5)
    ids, values = found.likeliest(3)
    assert torch.equal(ids[:, 0], best(x))
    torch.testing.assert_close(values.double(), exact.topk(min(3, n), -1).values, atol=2e-6, rtol=1e-5)
    assert torch.equal(found.best.confidence, Candidates(best(x), x).confidence)
    if n > 1:
        first, second = exact.exp().topk(2, -1).values.unbind(-1)
        torch.testing.assert_close(found.margin.double(), first - second, atol=1e-6, rtol=1e-5)
    alone = [Candidates(token[r : r + 1], x[r : r + 1]) for r in range(6)]
    assert torch.equal(found.entropy, torch.cat([one.entropy for one in alone]))
    assert torch.equal(found.confidence, torch.cat([one.confidence for one in alone]))
    apart = torch.stack((x, x), 1)[:, 0]  # rows that do not lie side by side
    assert torch.equal(Candidates(token, apart).entropy, found.entropy)
    assert torch.equal(Candidates(token, apart).confidence, found.confidence)
    strange = x.clone()
    strange[0, n // 2], strange[1] = float("nan"), float("-inf")
    found = Candidates(token, strange)
    assert found.entropy[:2].isnan().all() and found.confidence[:2].isnan().all()
    assert not found.entropy[2:].isnan().any() and not found.confidence[2:].isnan().any()
