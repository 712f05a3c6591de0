"""Blocks left out: what must hold exactly of static layer skipping (arXiv:2603.07475)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from interlace.errors import SettingError
from interlace.evaluation.layers import _Sums, analyse
from interlace.generation import collect, generate
from interlace.nn import Transformer, TransformerConfig
from interlace.nn.skipping import choose, without
from interlace.systems import find

from ..letters import model

VOCABULARY, MASK, LAYERS = 32, 31, 5
WORKED = [0.90, 0.97, 0.99, 0.98, 0.96, 0.94, 0.97, 0.80]


def network(seed: int = 0) -> Transformer:
    config = TransformerConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=40, num_layers=LAYERS, num_heads=4, num_kv_heads=2,
        head_dim=8, max_positions=64, tied=False,
    )  # fmt: skip
    made, generator = Transformer(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3, generator=generator)
    return made.eval().requires_grad_(False)


def logits(net: Transformer, n: int = 12) -> torch.Tensor:
    content = torch.randint(0, MASK, (2, n), generator=torch.Generator().manual_seed(3))
    mask = torch.ones(n, n).tril().bool()[None, None]
    return net.head(net(content, torch.arange(n).expand(2, n), mask))


def test_nothing_left_out_changes_no_bit() -> None:
    net = network()
    assert torch.equal(logits(without(net, ())), logits(net))


@pytest.mark.parametrize("skip", [(1,), (3,), (5,), (2, 4), (1, 2, 3)])
def test_a_block_left_out_is_one_that_adds_nothing(skip: tuple[int, ...]) -> None:
    net, idle = network(), network()
    for number in skip:
        for name in ("attention.out", "mlp.down"):
            idle.blocks[number - 1].get_submodule(name).weight.zero_()
    found = logits(without(net, skip))
    torch.testing.assert_close(found, logits(idle), rtol=0, atol=1e-6 * float(found.abs().max()))
    torch.testing.assert_close(logits(without(idle, skip)), logits(idle), rtol=0, atol=1e-6 * float(found.abs().max()))
    assert len(net.blocks) == LAYERS, "the network itself stays whole"


def test_calls_of_blocks() -> None:
    net, calls = network(), []
    hooks = [block.register_forward_hook(lambda *_: calls.append(1)) for block in net.blocks]
    logits(without(net, (2, 4)))
    assert len(calls) == LAYERS - 2
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("system", ["ar", "sdar", "wedlm", "tidar", "llada"])
@pytest.mark.parametrize("hooked", [False, True])
def test_cached_and_uncached_decoding_agree(system: str, hooked: bool) -> None:
    """By the compiled blocks, and by PyTorch's (which a hook asks for)."""
    net = without(network(), (2, 4))
    hook = net.register_forward_hook(lambda *_: None) if hooked else None
    found = find(system)
    changes: dict[str, Any] = {} if system == "ar" else {"mask_id": MASK, "block_size": 4}
    parts = found.parts(found.settings.but(**changes))
    prompt = torch.randint(0, MASK, (6,), generator=torch.Generator().manual_seed(1))
    rows = []
    for memory in (parts.memory, "none"):
        events = generate(net, [prompt], 12, **parts.sampling | {"memory": memory}, details=True)
        rows.append(collect(events, [prompt], 12)[0])
    assert rows[0].content.tolist() == rows[1].content.tolist()
    torch.testing.assert_close(rows[0].log_prob, rows[1].log_prob, rtol=1e-5, atol=1e-5)
    if hook is not None:
        hook.remove()


@pytest.mark.parametrize(
    ("budget", "options", "expected"),
    [
        (0, {}, ()),
        (1, {}, (3,)),
        (2, {}, (3, 7)),
        (3, {}, (3, 5, 7)),
        (4, {}, (3, 5, 7)),
        (3, {"adjacent": True}, (2, 3, 4)),
        (2, {"protect": (3,)}, (4, 2)),
        (1, {"protect": (3, 4)}, (2,)),  # as similar as the seventh, and before it
        (2, {"protect": (3,), "adjacent": True}, (2, 4)),
        (3, {"protect": (3,), "adjacent": True}, (2, 4, 7)),
        (9, {"threshold": None, "adjacent": True, "protect": (1, 8)}, (2, 3, 4, 5, 6, 7)),
        (4, {"threshold": None}, (1, 3, 5, 7)),
        (2, {"threshold": 0.999}, ()),
    ],
)
def test_the_choice(budget: int, options: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert choose(WORKED, budget, **options) == tuple(sorted(expected))


@pytest.mark.parametrize("protect", [(), (1, 12)])
def test_no_two_neighbours_and_the_likest_first(protect: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        s = torch.rand(12, generator=generator).tolist()
        sets = [choose(s, budget, 0.4, protect) for budget in range(8)]
        for budget, (before, chosen) in enumerate(pairwise(sets), 1):
            assert len(chosen) <= budget and set(before) <= set(chosen) and not set(chosen) & set(protect)
            assert all(b - a > 1 for a, b in pairwise(chosen)) and all(s[layer - 1] > 0.4 for layer in chosen)
            free = {layer for layer in range(1, 13) if s[layer - 1] > 0.4 and layer not in protect}
            free -= {near for layer in before for near in (layer - 1, layer, layer + 1)}
            assert set(chosen) - set(before) == ({max(free, key=lambda layer: s[layer - 1])} if free else set())


def test_token_by_token_is_one_forward_over_all() -> None:
    """Keys kept under the numbers that layers have once others are out, against no keys at all."""
    for out in ((1,), (2, 4), (5,)):
        net = without(network(), out)
        prompt = torch.randint(0, MASK, (6,), generator=torch.Generator().manual_seed(1))
        events = generate(net, [prompt], 12, **find("ar").parts(find("ar").settings).sampling, details=True)
        row = collect(events, [prompt], 12)[0]
        n = len(row.row)
        whole = net.head(net(row.row[None], torch.arange(n)[None], torch.ones(n, n).tril().bool()[None, None]))
        said = whole[0, 5:-1].log_softmax(-1).gather(-1, row.content[:, None])[:, 0]
        torch.testing.assert_close(row.log_prob, said, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_left_out() -> None:
    for layer in (0, 6):
        with pytest.raises(
            SettingError, match=f"layer {layer} cannot be left out of 5 layers; pass numbers from 1 to 5"
        ):
            without(network(), (layer,))
    with pytest.raises(SettingError, match="the budget is -1 layers"):
        choose(WORKED, -1)


def states(rows: torch.Tensor) -> list[torch.Tensor]:
    return list(rows)


def test_sums_by_hand() -> None:
    """Identical tokens: neighbours 1, recency 0. Orthogonal ones: 0. S is symmetric with s above its diagonal."""
    same = torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(0)).expand(4, 40, 8)
    sums = _Sums(3)
    sums.add(states(same), torch.ones(40, dtype=torch.bool))
    found = sums.result("clean")
    assert found.similarity == pytest.approx((1, 1, 1)) and found.neighbours == pytest.approx((1, 1, 1))
    assert found.recency == pytest.approx((0, 0, 0), abs=1e-9) and found.step == pytest.approx((0, 0, 0))
    sums = _Sums(1)
    sums.add(states(torch.eye(20).expand(2, 20, 20)), torch.ones(20, dtype=torch.bool))
    assert sums.result("clean").neighbours == pytest.approx((0,))
    rows = torch.randn(4, 30, 8, generator=torch.Generator().manual_seed(1))
    sums = _Sums(3)
    sums.add(states(rows), torch.ones(30, dtype=torch.bool))
    found = sums.result("clean")
    cosine = torch.nn.functional.cosine_similarity(rows[:-1].double(), rows[1:].double(), dim=-1)
    assert found.similarity == pytest.approx(cosine.mean(1).tolist()) and found.tokens == 30
    assert found.deviation == pytest.approx(cosine.std(1, correction=0).tolist())
    moved = (rows[1:] - rows[:-1]).double().norm(dim=-1) / rows[:-1].double().norm(dim=-1)
    assert found.step == pytest.approx(moved.mean(1).tolist())
    unit = torch.nn.functional.normalize(rows[1:].double(), dim=-1)
    near = [(unit[:, :-d] * unit[:, d:]).sum(-1).mean(-1) for d in range(1, 30)]
    assert found.neighbours == pytest.approx(near[0].tolist())
    assert found.recency == pytest.approx((near[0] - torch.stack(near[15:]).mean(0)).tolist())
    matrix = torch.tensor(found.matrix)
    torch.testing.assert_close(matrix, matrix.T)
    assert matrix.diagonal().tolist() == pytest.approx([1] * 4)
    assert matrix.diagonal(1).tolist() == pytest.approx(list(found.similarity))
    scaled = _Sums(3)
    scaled.add(states(rows * torch.tensor([1.0, 5.0, 0.1, 9.0])[:, None, None]), torch.ones(30, dtype=torch.bool))
    assert scaled.result("clean").similarity == pytest.approx(found.similarity), "lengths do not matter"


def test_the_regimes() -> None:
    made, texts = model("sdar"), ["abc(de)\ngh = ab", "ab = cd", "a"]
    clean, masks, rollout = (analyse(made, texts, regime) for regime in ("clean", "allmask", "denoise"))  # type: ignore[arg-type]
    assert clean.tokens == masks.tokens == 15 + 7 and clean.similarity != masks.similarity
    assert rollout.tokens > 0 and len(rollout.by_ratio) == 4 and any(rollout.by_ratio)
    idle = model("sdar")
    with torch.no_grad():
        for name in ("attention.out", "mlp.down"):
            idle.network.blocks[1].get_submodule(name).weight.zero_()
    assert analyse(idle, texts).similarity[1] == pytest.approx(1.0, abs=1e-9)
    assert not idle.network._forward_hooks and not idle.network.blocks[0]._forward_pre_hooks
    with pytest.raises(SettingError, match="ar has no masks to denoise; pass regime clean"):
        analyse(model("ar"), texts, "denoise")
    with pytest.raises(SettingError, match="unknown regime 'noisy'"):
        analyse(made, texts, "noisy")  # type: ignore[arg-type]
