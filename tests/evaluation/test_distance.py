"""How far attention looks: hand-made cases, patterns, groups of heads, chunks, and what a rollout shows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.kernels import make_mask
from interlace.attention.patterns import Bidirectional, BlockCausal, Causal, Pattern, Tags, dense
from interlace.evaluation.distance import Places, attention_distance
from interlace.evaluation.layers import analyse
from interlace.model import Model

from ..letters import model

N, D = 12, 8


def tags(n: int = N, block: int = 4, rows: int = 1) -> Tags:
    index = torch.arange(n).repeat(rows, 1)
    return Tags(index, index // block, torch.zeros_like(index), torch.zeros_like(index))


def seen(pattern: Pattern, n: int = N, block: int = 4) -> Tensor:
    return dense(pattern, tags(n, block)).unsqueeze(1)


def random(heads: int = 4, kv_heads: int = 2, rows: int = 2, n: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(rows, count, n, D, generator=generator) for count in (heads, kv_heads))
    return 2 * q, k


def by_hand(q: Tensor, k: Tensor, mask: Tensor, query_place: Tensor, key_place: Tensor) -> Tensor:
    """Query by query, head by head, key by key."""
    rows, heads, n, d = q.shape
    shared = heads // k.shape[1]
    found = torch.zeros(rows, n, dtype=torch.float64)
    for r in range(rows):
        for i in range(n):
            for h in range(heads):
                score = (k[r, h // shared].double() @ q[r, h, i].double()) / d**0.5
                here = mask[r % mask.shape[0], 0, i]
                weight = score[here].softmax(0)
                away = (query_place[r, i] - key_place[r, here]).abs().double()
                found[r, i] += float(weight @ away) / heads
    return found


def test_a_known_matrix() -> None:
    """Attention of 3/4 and 1/4, on keys 1 and 3 places away, and all of it on one key."""
    weights = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]])
    q, k = weights.log().clamp_min(-200)[None, None] * 3**0.5, torch.eye(3)[None, None]
    found = attention_distance(q, k, None, torch.tensor([[2, 9]]), torch.tensor([[1, 5, 7]]))
    assert found[0].tolist() == pytest.approx([0.75 * 1 + 0.25 * 3, 2.0])


def test_attention_to_every_key_alike() -> None:
    """Causal: i / 2. Full: (i (i + 1) + (n - 1 - i) (n - i)) / 2 n. In blocks: the same up to the block's end."""
    q, k, place = torch.zeros(1, 4, N, D), random()[1][:1], torch.arange(N)[None]

    def full(i: int, n: int) -> float:
        return (i * (i + 1) + (n - 1 - i) * (n - i)) / (2 * n)

    for mask, expected in (
        (seen(Causal()), [i / 2 for i in range(N)]),
        (seen(Bidirectional()), [full(i, N) for i in range(N)]),
        (None, [full(i, N) for i in range(N)]),
        (seen(BlockCausal()), [full(i, 4 * (i // 4 + 1)) for i in range(N)]),
        (torch.eye(N, dtype=torch.bool), [0.0] * N),
    ):
        assert attention_distance(q, k, mask, place, place)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("pattern", [Causal(), BlockCausal(), Bidirectional()])
@pytest.mark.parametrize("most", [1, 300, 1 << 22])
def test_groups_of_heads_and_chunks(heads: tuple[int, int], pattern: Pattern, most: int) -> None:
    q, k = random(*heads)
    place = torch.arange(N).repeat(2, 1)
    mask = seen(pattern)
    found = attention_distance(q, k, mask, place, place, most)
    torch.testing.assert_close(found.double(), by_hand(q, k, mask, place, place), rtol=1e-4, atol=1e-5)


def test_no_more_weights_than_allowed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = random()
    place, sizes = torch.arange(N).repeat(2, 1), []
    softmax = Tensor.softmax

    def watched(scores: Tensor, *options: Any) -> Tensor:
        sizes.append(scores.numel())
        return softmax(scores, *options)

    monkeypatch.setattr(Tensor, "softmax", watched)
    attention_distance(q, k, None, place, place, 300)
    assert sizes == [2 * 4 * 3 * N] * 4


@pytest.mark.parametrize("kernel", ["tiles", "flex"])
def test_masks_of_every_kernel(kernel: str) -> None:
    n = 300
    place = tags(n, rows=2).index
    q, k = random(n=n)
    known = tags(n, 7, rows=2)
    mask, plain = (make_mask(BlockCausal(), known, name) for name in (kernel, "dense"))
    found, expected = (attention_distance(q, k, one, place, place, 1 << 17) for one in (mask, plain))
    assert not isinstance(mask, Tensor)
    torch.testing.assert_close(found, expected)


def test_padding_sees_nothing() -> None:
    q, k = random()
    place = torch.arange(N).repeat(2, 1)
    mask = seen(Causal()).clone()
    mask[..., 3, :] = False
    found = attention_distance(q, k, mask, place, place)
    assert found.isfinite().all() and (found[:, 3] == 0).all() and (found[:, 4] > 0).all()


TEXT = "abc(de)\ngh = ab"


@pytest.mark.parametrize("system", ["ar", "sdar", "llada"])
def test_a_network_to_which_all_keys_are_alike(system: str) -> None:
    """Without queries every layer is as far as the pattern says."""
    made = model(system)
    with torch.no_grad():
        for block in made.network.blocks:
            block.attention.q_norm.weight.zero_()
    found = analyse(made, [TEXT, "ab = cd"])
    assert found.distance == pytest.approx([found.uniform] * 3)
    lengths = (len(TEXT), 7)
    if system == "ar":
        away = [i / 2 for n in lengths for i in range(n)]
        assert found.uniform == pytest.approx(sum(away) / len(away))
    plain = analyse(model(system), [TEXT, "ab = cd"])
    assert plain.uniform == pytest.approx(found.uniform) and len({round(d, 3) for d in plain.distance}) == 3


@pytest.mark.parametrize("system", ["sdar", "wedlm", "tidar", "fast-dllm-v2", "llada"])
def test_a_rollout_is_measured_by_places_with_and_without_memory(system: str) -> None:
    """Whatever the order in which tokens are fed, what is fed beside the row, and where their keys lie."""
    made = model(system, steps=None)
    kept = analyse(made, [TEXT], "denoise")

    class Forgetful(Model):
        def stream(self, *given: Any, **options: Any) -> Any:
            return super().stream(*given, memory="none", **options)

    forgot = analyse(Forgetful(made.checkpoint, made.system, made.settings), [TEXT], "denoise")
    # without memory more tokens are fed, but the same masks see the same
    assert kept.tokens == forgot.tokens > 0
    assert kept.distance == pytest.approx(forgot.distance, rel=1e-4)
    assert kept.uniform == pytest.approx(forgot.uniform, rel=1e-6)


def test_places_follow_the_order_of_what_is_fed() -> None:
    """Keys that lie in another order than their places, then further ones behind; a new memory forgets them."""
    from interlace.memory import ExactKV

    memory, places = ExactKV(1, 1, 1, 8, 10), Places()
    places.feed(torch.tensor([[0, 2, 1]]), memory, torch.tensor([[0, 1, 2]]))
    places.feed(torch.tensor([[4, 3]]), memory, torch.tensor([[3, 4]]))
    assert places._known.tolist() == [[0, 2, 1, 4, 3]] and places.queries.tolist() == [[4, 3]]
    places.feed(torch.tensor([[7, 5]]), memory, torch.tensor([[3, 4]]))
    assert places._known.tolist() == [[0, 2, 1, 7, 5]]
    places.feed(torch.tensor([[5]]), ExactKV(1, 1, 1, 8, 10), torch.tensor([[0]]))
    assert places._known.tolist() == [[5]]
    places.feed(torch.tensor([[3, 1]]))
    assert places._known.tolist() == [[3, 1]]


def test_looking_changes_no_text() -> None:
    """Keys are written twice while it is looked at, the same ones."""
    made = model("sdar")
    before = made.complete(TEXT[:6], 8, stop=())
    analyse(made, [TEXT], "denoise")
    from interlace.evaluation.layers import _Sums, _watching

    with _watching(made.network, _Sums(3), None):
        watched = made.complete(TEXT[:6], 8, stop=())
    assert watched.content.tolist() == before.content.tolist()
    assert not any(block.attention._forward_hooks for block in made.network.blocks)
