"""The compiled blocks are the same function as the network's, and the same for a token alone and in a batch."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interlace.attention.paged import Pages
from interlace.attention.positions import Rope
from interlace.generation import walk
from interlace.memory import ExactKV
from interlace.model import load
from interlace.nn import MoE, Transformer, TransformerConfig
from interlace.nn.native import MOST, TILE, Native, accelerated, library

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler")

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "qwen2": {"qk_norm": False, "qkv_bias": True, "tied": False},
    "llama, all biases": {"qk_norm": False, "qkv_bias": True, "out_bias": True, "mlp_bias": True},
    "odd sizes": {"hidden_size": 37, "intermediate_size": 19, "num_heads": 5, "num_kv_heads": 1, "head_dim": 6},
    "one head": {"hidden_size": 9, "num_heads": 1, "num_kv_heads": 1, "head_dim": 2},
}


def network(seed: int = 0, **changes: Any) -> Transformer:
    """Random weights, norms and biases included."""
    shape: dict[str, Any] = {
        "vocab_size": 61, "hidden_size": 48, "intermediate_size": 80, "num_layers": 3, "num_heads": 6,
        "num_kv_heads": 2, "head_dim": 16, "max_positions": 512, "rope": Rope((100.0,)),
    }  # fmt: skip
    net = Transformer(TransformerConfig(**(shape | changes))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(float(weight.dim() < 2), 0.3, generator=generator)
    return net


def draw(rows: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids, and other positions in every row."""
    ids = torch.randint(0, 61, (rows, n), generator=torch.Generator().manual_seed(seed))
    return ids, torch.arange(n)[None] + 7 * torch.arange(rows)[:, None]


def logits(net: Any, *args: Any) -> Tensor:
    with torch.inference_mode():
        return net.head(net(*args))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows,n", [(1, 1), (1, 2), (1, 8), (3, 5), (7, 1), (2, 29)])
def test_equal_to_the_network(shape: str, rows: int, n: int) -> None:
    net = network(**SHAPES[shape])
    fast = accelerated(net)
    assert isinstance(fast, Native)
    ids, positions = draw(rows, n)
    mask = torch.rand(rows, 1, n, n, generator=torch.Generator().manual_seed(1)) < 0.6
    mask |= torch.eye(n, dtype=torch.bool)
    for seen in (None, mask, mask[:1]):
        expected = logits(net, ids, positions, seen)
        torch.testing.assert_close(
            logits(fast, ids, positions, seen), expected, rtol=0, atol=1e-5 * float(expected.abs().max())
        )


@pytest.mark.parametrize("rows", [1, 3])
def test_equal_with_a_memory(rows: int) -> None:
    net = network()
    ids, positions = draw(rows, 9)
    expected = logits(net, ids, positions, torch.ones(9, 9, dtype=torch.bool).tril())
    memory, found = ExactKV(3, rows, 2, 16, 9), []
    for first, last in ((0, 4), (4, 5), (5, 9)):
        memory.open([last] * rows)
        slots = torch.arange(first, last).expand(rows, -1)
        mask = torch.ones(9, 9, dtype=torch.bool).tril()[first:last, :last]
        piece = ids[:, first:last], positions[:, first:last], mask[None, None], memory, slots
        found.append(logits(accelerated(net), *piece))
        memory.commit([last] * rows)
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_is_the_same_to_the_bit_whatever_is_beside_it(shape: str, dtype: torch.dtype) -> None:
    fast = accelerated(network(**SHAPES[shape]).to(dtype))
    ids, positions = draw(13, 1)
    alone = torch.cat([logits(fast, ids[r : r + 1], positions[r : r + 1]) for r in range(13)])
    for rows in range(2, 14):
        assert torch.equal(logits(fast, ids[:rows], positions[:rows]), alone[:rows]), rows


@pytest.mark.parametrize("shape", SHAPES)
def test_the_number_of_threads_changes_nothing(shape: str) -> None:
    fast, before = accelerated(network(**SHAPES[shape])), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(logits(fast, *draw(2, 5)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_is_no_farther_from_float32_than_the_operators_are(shape: str) -> None:
    exact = network(**SHAPES[shape])
    half = copy.deepcopy(exact).to(torch.bfloat16)
    errors = {"native": 0.0, "operators": 0.0}
    for seed in range(4):
        ids, positions = draw(2, 8, seed)
        truth = logits(exact, ids, positions)
        for name, net in (("native", accelerated(half)), ("operators", half)):
            found = logits(net, ids, positions)
            assert found.dtype == torch.bfloat16
            errors[name] += float((found.float() - truth).norm() / truth.norm())
    assert 0 < errors["native"] < 1.1 * errors["operators"]


@pytest.mark.parametrize("scale", [1e-4, 30.0, 1e4])
def test_small_and_large_numbers(scale: float) -> None:
    net = network()
    with torch.no_grad():
        for block in net.blocks:
            block.mlp.up.weight.mul_(scale)  # gates far out on both sides
    ids, positions = draw(1, 6)
    expected = logits(net, ids, positions)
    found = logits(accelerated(net), ids, positions)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_nan_stays_nan() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        net = network().to(dtype)
        with torch.no_grad():
            net.blocks[1].mlp.down.weight[0, 0] = torch.nan
        assert logits(accelerated(net), *draw(1, 3)).isnan().all()


def test_many_tokens_and_gradients_go_to_the_network() -> None:
    net = network()
    fast, calls = accelerated(net), []
    net.register_forward_hook(lambda *_: calls.append(1))
    whole = fast.most // MOST
    logits(fast, *draw(whole, MOST))
    assert not calls
    logits(fast, *draw(whole + 1, MOST))
    assert len(calls) == 1
    fast.head(fast(*draw(1, 2))).sum().backward()
    assert len(calls) == 2 and net.embed.weight.grad is not None


def test_a_wide_network_takes_fewer_tokens_than_a_narrow_one() -> None:
    most = [accelerated(network(hidden_size=width)).most for width in (64, 128, 255, 256, 384)]
    assert most == [4 * MOST, 2 * MOST, MOST, MOST, MOST]


class Pool:
    """A memory of pages: what a layer wrote, in the slots that it was told."""

    def __init__(self, net: Transformer, slots: int) -> None:
        config = net.config
        shape = config.num_layers, 2, slots, config.num_kv_heads, config.head_dim
        self.storage = torch.full(shape, torch.nan, dtype=net.output.weight.dtype)

    def write(self, layer: int, k: Tensor, v: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        self.storage[layer][:, slots[0]] = torch.stack([k[0], v[0]]).transpose(1, 2)
        return self.storage[layer][0], self.storage[layer][1]


def packed(fast: Any, lengths: list[int], chunk: int = 10**6, size: int = 4) -> list[Tensor]:
    """Logits of causal rows that are fed in packs: at most a chunk of each row at a time."""
    net, rows = getattr(fast, "network", fast), len(lengths)
    most = -(-max(lengths) // size)
    tables = torch.randperm(rows * most, generator=torch.Generator().manual_seed(rows)).view(rows, most)
    pool, found = Pool(net, rows * most * size), [torch.empty(0)] * rows
    ids = [draw(1, n, seed=n)[0][0] for n in lengths]
    for first in range(0, max(lengths), chunk):
        here = [r for r in range(rows) if first < lengths[r]]
        ends = [min(lengths[r], first + chunk) for r in here]
        spans = [torch.arange(first, end) for end in ends]
        starts = [0, *torch.tensor([len(span) for span in spans]).cumsum(0).tolist()]
        masks: list[Tensor | None] = [torch.ones(end, end, dtype=torch.bool).tril()[first:] for end in ends]
        slots = torch.cat([tables[r, span // size] * size + span % size for r, span in zip(here, spans, strict=True)])
        content = torch.cat([ids[r][span] for r, span in zip(here, spans, strict=True)])
        pages = Pages(tables[here], size, starts, ends, masks)
        pieces = logits(fast, content[None], torch.cat(spans)[None], pages, pool, slots[None])[0]
        for r, piece in zip(here, pieces.split([len(span) for span in spans]), strict=True):
            found[r] = torch.cat([found[r].to(piece.dtype).view(-1, piece.shape[1]), piece])
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_rows_are_those_of_the_network(shape: str) -> None:
    net = network(**SHAPES[shape])
    lengths = [1, 70, 9, 33]
    for n, found, plain in zip(lengths, packed(accelerated(net), lengths), packed(net, lengths), strict=True):
        mask = torch.ones(n, n, dtype=torch.bool).tril()
        expected = logits(net, draw(1, n, seed=n)[0], torch.arange(n)[None], mask)[0]
        near = {"rtol": 0, "atol": 1e-5 * float(expected.abs().max())}
        torch.testing.assert_close(found, expected, **near)
        torch.testing.assert_close(plain, expected, **near)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_row_is_the_same_to_the_bit_in_any_pack(shape: str, dtype: torch.dtype) -> None:
    net = network(**SHAPES[shape]).to(dtype)
    fast, calls = accelerated(net, invariant=True), []
    net.register_forward_hook(lambda *_: calls.append(1))
    lengths = [3, 200, 65, 1, 100]  # with others more than MOST and than several tiles of tokens
    alone = [packed(fast, [n])[0] for n in lengths]
    for mix, chunk in ((lengths, 10**6), (lengths[::-1], 64), ([*lengths, 200], 150), (lengths, 97)):
        for n, found in zip(mix, packed(fast, mix, chunk), strict=True):
            assert torch.equal(found, alone[lengths.index(n)]), (n, mix, chunk)
    assert not calls


def test_a_pack_of_any_size_is_compiled_and_the_head_where_it_is_asked() -> None:
    net = network()
    fast, calls = accelerated(net), []
    net.register_forward_hook(lambda *_: calls.append("blocks"))
    net.output.register_forward_hook(lambda *_: calls.append("head"))
    packed(fast, [MOST] * (fast.most // MOST + 1))
    assert calls == ["head"]
    calls.clear()
    whole, fast = fast.most // MOST, Native(net, invariant=True)
    packed(fast, [MOST] * (whole + 1))
    logits(fast, *draw(whole + 1, MOST))
    assert not calls


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_tokens_changes_nothing(shape: str, dtype: torch.dtype) -> None:
    """Tokens of several tiles, all or some; each sees itself alone."""
    fast, before = accelerated(network(**SHAPES[shape]).to(dtype), invariant=True), torch.get_num_threads()
    ids, positions = draw(1, 2 * TILE + 5)
    pool = Pool(fast.network, 2 * TILE + 5)

    def told(some: Tensor) -> Tensor:
        n = len(some)
        slots = torch.arange(n)
        pages = Pages(slots[:, None], 1, [*range(n + 1)], [1] * n, [None] * n)
        return logits(fast, ids[:, some], positions[:, some], pages, pool, slots[None])[0]

    whole = told(torch.arange(2 * TILE + 5))
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for some in (torch.arange(0, 2 * TILE + 5, 7), torch.arange(TILE - 1, 2 * TILE + 5), torch.arange(TILE)):
                assert torch.equal(told(some), whole[some])
    finally:
        torch.set_num_threads(before)


class _Lora(nn.Linear):
    """A layer that is more than its weight."""


def test_what_is_not_plain_is_left_alone() -> None:
    assert accelerated(network(moe=MoE(4, 2, 8))).__class__ is Transformer
    assert accelerated(network(gated_mlp=False)).__class__ is Transformer
    assert accelerated(network().half()).__class__ is Transformer
    assert accelerated(network(vocab_size=0, features=8, levels=True)).__class__ is Transformer
    assert accelerated(network(rope=Rope((10.0, 10.0)))).__class__ is Transformer
    assert accelerated("anything") == "anything"
    for change in (
        lambda net: net.blocks[0].register_forward_hook(lambda *_: None),
        lambda net: net.blocks[2].mlp.register_forward_pre_hook(lambda *_: None),
        lambda net: setattr(net, "forward", net.forward),
        lambda net: setattr(net, "head", net.head),
        lambda net: setattr(net.blocks[1].attention, "qkv", _Lora(48, 160, bias=False)),
        lambda net: setattr(net.blocks[1].mlp.down, "weight", nn.Parameter(torch.ones(80, 48).t())),
        lambda net: net.blocks[1].to(torch.bfloat16),
        lambda net: net.compile(),
    ):
        net = network()
        change(net)
        assert accelerated(net) is net


@pytest.mark.parametrize("name,dtype", [("base", torch.float32), ("twin", torch.float32), ("twin", torch.bfloat16)])
def test_whole_generations_are_those_of_the_operators(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(name, dtype=dtype)
    prompts = ["def area(width, height):", "import", "class Stack:\n    def push(self, item):"]
    fast = model.complete_all(prompts, 24, details=True)
    monkeypatch.setattr(walk, "accelerated", lambda net: net)
    plain = model.complete_all(prompts, 24, details=True)
    for one, two in zip(fast, plain, strict=True):
        if dtype is torch.float32:  # in bfloat16 the nearest candidates may change places
            assert one.content.tolist() == two.content.tolist() and one.forwards == two.forwards
            torch.testing.assert_close(one.log_prob, two.log_prob, rtol=0, atol=1e-4)
        else:
            assert one.content[0] == two.content[0]


def test_weights_that_were_moved_are_read_anew() -> None:
    model = load("base", dtype=torch.float32)
    before = model.complete("def f(", 4).content
    model.network.to(torch.bfloat16).to(torch.float32)
    assert torch.equal(model.complete("def f(", 4).content, before)
    with torch.no_grad():
        model.network.embed.weight.neg_()
    assert not torch.equal(model.complete("def f(", 4).content, before)


CODE = """
import sys, warnings
import interlace
from interlace.nn.native import library
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(interlace.load("base", dtype="float32").complete("def area(width, height):", 8).content.tolist())
    interlace.load("base").complete("x", 1)
print(library() is None, [str(w.message) for w in caught if "compiled blocks" in str(w.message)])
"""


@pytest.mark.parametrize("how", ["off", "no compiler", "broken compiler", "cache that is a file"])
def test_without_a_compiler_pytorch_runs(how: str, tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'error: no such luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    cache = tmp_path / "cache"
    changes: dict[str, str] = {
        "off": {"INTERLACE_NATIVE": "0"},
        "no compiler": {"PATH": str(tmp_path / "nowhere"), "XDG_CACHE_HOME": str(cache)},
        "broken compiler": {"CXX": str(broken), "XDG_CACHE_HOME": str(cache)},
        "cache that is a file": {"XDG_CACHE_HOME": str(broken)},
    }[how]
    environment = {k: v for k, v in os.environ.items() if k != "CXX"} | changes
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    tokens, told = done.stdout.splitlines()
    assert tokens == str(load("base", dtype=torch.float32).complete("def area(width, height):", 8).content.tolist())
    assert told.startswith("True [")
    assert told.count("the compiled blocks cannot be used") == int(how in ("broken compiler", "cache that is a file"))
    if how == "broken compiler":
        assert "no such luck" in told and not list((cache / "interlace").iterdir())


def test_the_kernel_is_compiled_once_and_kept(tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "CXX": f"{compiler} -DWITH_AN_OPTION"}
    code = "from interlace.nn.native import library; assert library() is not None"
    found = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        (built,) = (tmp_path / "interlace").iterdir()
        found.append((built.name, built.stat().st_ino, built.stat().st_mtime_ns))
    assert built.suffix == ".so" and found[0] == found[1]
