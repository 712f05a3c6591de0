"""Dream's sampler (arXiv:2508.15487) in all of its orders, against a plain one that is fed the same numbers."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.errors import SettingError
from interlace.generation import Result, collect, generate
from interlace.grid import Noise
from interlace.memory import ExactKV
from interlace.nn import Transformer, TransformerConfig
from interlace.systems import find

from .conftest import MASK, SHAPE, VOCABULARY, fill, tokens

ALGS = {
    "origin": "ancestral",
    "maskgit_plus": "static",
    "topk_margin": "largest-margin",
    "entropy": "least-uncertain",
}


@cache
def network() -> Transformer:
    """Untied, so that its greedy texts vary."""
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, tied=False, **SHAPE)))


def complete(prompt: Tensor, length: int, seed: int = 0, **settings: Any) -> Result:
    system = find("dream")
    parts = system.parts(system.settings.but(mask_id=MASK, **settings))
    return collect(generate(network(), [prompt], length, **parts.sampling, seed=seed), [prompt], length)[0]


def left(said: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Probabilities after the temperature, the nucleus and then the ``top_k`` of it."""
    probability, kept, mass = (said / (temperature or 1.0)).softmax(-1), [], 0.0
    for token in sorted(range(len(said)), key=lambda token: -probability[token]):
        if mass <= top_p:
            kept.append(token)
        mass += float(probability[token])
    found = torch.zeros_like(probability)
    found[kept[: top_k or None]] = probability[kept[: top_k or None]]
    return found / found.sum()


def sampled(probability: Tensor, u: float) -> int:
    """The token at which the probabilities pass u."""
    return min(int((probability.cumsum(0) <= u).sum()), int(probability.nonzero().max()))


def published(
    prompt: Tensor, length: int, block: int, steps: int, alg: str, alg_temp: float, eps: float, seed: int,
    temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, cache: str = "none", threshold: float | None = None,
) -> tuple[list[int], int, int]:  # fmt: skip
    """Tokens, forwards and token slots of one row, of which blocks are filled one after the other.

    cache: those of Fast-dLLM, where a block begins with its first token alone. threshold: its confidence_threshold.
    """
    total, noise, forwards, slots = len(prompt) + length, Noise((seed,)), 0, 0
    row = torch.cat((prompt, torch.full((length,), MASK)))
    for begin in range(len(prompt), total, block):
        end, step, past = min(begin + block, total), 0, ExactKV(2, 1, 2, 8, total)
        while (open := [i for i in range(begin, end) if row[i] == MASK]):
            first, last = (0, total) if step == 0 or cache == "none" else (begin, total if cache == "prefix" else end)
            past.open([total])
            index = torch.arange(first, last)[None]
            said = network().head(network()(row[None, first:last], index, None, past, index))[0].double()
            said[:, MASK] = -torch.inf
            time, after = (1 - (1 - eps) * n / steps for n in (min(step, steps - 1), min(step, steps - 1) + 1))
            lifted = 1 - after / time if step < steps - 1 else 1.0
            found, key = {}, {}
            for place in open:
                numbers = [getattr(noise, kind)([0], [place], [step], (1,)).item() for kind in ("uniform", "order")]
                assert place > first, "predicted outside of what is fed"
                probability = left(said[place - 1 - first], temperature, top_k, top_p)
                token = sampled(probability, numbers[0]) if temperature else int(probability.argmax())
                ranked = probability.sort(descending=True).values
                key[place] = {
                    "origin": lifted - numbers[1],
                    "maskgit_plus": float(probability[token]),
                    "topk_margin": float(ranked[0] - ranked[1]),
                    "entropy": float(torch.xlogy(probability, probability).sum()),
                }[alg]
                if alg_temp and alg != "origin":
                    key[place] = key[place] / alg_temp - math.log(-math.log(numbers[1]))
                found[place] = token
            ranked_places = sorted(open, key=lambda place: -key[place])
            count = sum(value > 0 for value in key.values()) if alg == "origin" else int(len(open) * lifted)
            if threshold is not None:
                count = max(1, sum(value >= threshold for value in key.values()))
            if cache != "none" and step == 0:
                ranked_places, count = [begin], 1
            for place in ranked_places[:count]:
                row[place] = found[place]
            forwards, slots, step = forwards + 1, slots + last - first, step + 1
    return row[len(prompt) :].tolist(), forwards, slots


@pytest.mark.parametrize("alg", ALGS)
@pytest.mark.parametrize("alg_temp", [0.0, 0.3])
@pytest.mark.parametrize(("block", "steps", "eps"), [(16, 16, 1e-3), (16, 5, 0.2), (8, 3, 1e-3), (4, 1, 1e-3)])
@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.9},
        {"top_p": 0.9},
        {"temperature": 0.2, "top_p": 0.95},
        {"temperature": 1.2, "top_k": 12, "top_p": 0.9},
    ],
)
def test_whole_generations(
    block: int, steps: int, eps: float, alg: str, alg_temp: float, sampling: dict[str, Any]
) -> None:
    prompt = tokens(5)
    expected = published(prompt, 14, block, steps, alg, alg_temp, eps, 3, **sampling)
    settings = {"block_size": block, "steps": steps, "eps": eps, "reveal": ALGS[alg], "order_temperature": alg_temp}
    row = complete(prompt, 14, 3, **settings, **sampling)
    assert (row.content.tolist(), row.forwards, row.slots) == expected


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize(
    ("alg", "threshold"), [*((alg, None) for alg in ALGS), ("maskgit_plus", 0.2), ("maskgit_plus", 0.9)]
)
@pytest.mark.parametrize(("block", "steps"), [(16, 16), (8, 3), (4, 2), (4, 1), (1, 1)])
@pytest.mark.parametrize(("given", "sampling"), [(1, {}), (5, {"temperature": 0.7, "top_p": 0.9})])
def test_the_caches_of_fast_dllm(
    given: int, block: int, steps: int, alg: str, threshold: float | None, cache: str, sampling: dict[str, Any]
) -> None:
    """A block begins with a whole forward, of which its first token is taken; from then on its own tokens are fed."""
    prompt = tokens(given, seed=given)
    expected = published(prompt, 16, block, steps, alg, 0.0, 1e-3, 3, **sampling, cache=cache, threshold=threshold)
    settings: dict[str, Any] = {"block_size": block, "steps": steps, "cache": cache, "reveal": ALGS[alg]}
    if threshold is not None:
        settings |= {"reveal": "threshold", "threshold": threshold}
    row = complete(prompt, 16, 3, **settings, **sampling)
    assert (row.content.tolist(), row.forwards, row.slots) == expected
    assert row.slots < row.forwards * (given + 16) or row.forwards == 16 // block


def test_the_order_is_drawn_by_the_seed_alone() -> None:
    """Greedy texts, which only the order of reveal can change."""
    for settings in ({"reveal": "ancestral"}, {"reveal": "static", "order_temperature": 0.3}):
        texts = [complete(tokens(5), 16, seed, steps=8, **settings).content.tolist() for seed in (1, 1, 2, 3)]
        assert texts[0] == texts[1] and len({tuple(text) for text in texts}) == 3
    plain = [complete(tokens(5), 16, seed, steps=8).content.tolist() for seed in (1, 2)]
    assert plain[0] == plain[1]


def test_the_temperature_ends_at_the_rule() -> None:
    settings: dict[str, Any] = {"steps": 8, "temperature": 0.8}
    rows = [complete(tokens(5), 16, 4, order_temperature=t, **settings).content.tolist() for t in (0.0, 1e-9, 1.0)]
    assert rows[0] == rows[1] == complete(tokens(5), 16, 4, **settings).content.tolist() != rows[2]


@pytest.mark.parametrize("eps", [-0.1, 1.0])
def test_a_time_that_is_none_is_refused(eps: float) -> None:
    with pytest.raises(SettingError, match=r"eps is .*; pass "):
        find("dream").settings.but(eps=eps)
