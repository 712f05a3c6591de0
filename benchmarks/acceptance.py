"""What a shared number costs TiDAR at temperature > 0: how often a draft is accepted by it, and by other rules.

    python benchmarks/acceptance.py                    # trains a small model first, 400 steps of 1,024 tokens
    python benchmarks/acceptance.py --model DIR --temperatures 0.5,0.8,1

A draft comes from q, and its verification draws from p (``processes/speculative.py``). All rules below leave the law of
the text as it is, that of p; they differ in how often both are the same token:

shared number   F_p^-1(u) = F_q^-1(u): ours; the text is that of autoregression with the same seed
likeliest       F_p^-1(u) = argmax q: the same text, since a draft may come from anywhere
shared Gumbel   argmax log p + g = argmax log q + g: the same property, another way to draw (arXiv:2408.07978)
rejection       min(1, p / q), then max(p - q, 0) (arXiv:2211.17192): as often as any can, 1 - TV(p, q); q is kept

Texts are drawn from the model, prompts are held-out ones. Along each the chance of every draft to be accepted, given
the text, is exact, and so is the expected number of forwards (a renewal equation over the places where a step can
begin). The forwards that the library takes are counted beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import interlace
from interlace.attention.kernels import make_mask
from interlace.attention.patterns import Branching, Tags
from interlace.recipes import adapt
from interlace.report.files import write_whole
from interlace.training.settings import TrainSettings
from interlace.training.text import DataSettings
from interlace.worlds.corpus import open_corpus
from interlace.worlds.verifiers import code_prompts

RULES = ("shared number", "likeliest", "shared Gumbel", "rejection")


def laws(model: Any, row: Tensor, start: int, temperature: float) -> tuple[Tensor, Tensor]:
    """p [m, vocab] of the tokens from ``start`` on, and q [m, K, vocab]: what a step that begins there drafts for them.

    One forward: the row, and behind it a branch of K masks for every place.
    """
    size, mask_id, n = model.settings.block_size, model.settings.mask_id, len(row)
    places = torch.arange(start, n)
    slot = places[:, None] + torch.arange(size)
    zero = torch.zeros(n, dtype=torch.long)
    here = Tags(torch.arange(n), zero, zero, zero)
    number = torch.arange(1, len(places) + 1)[:, None].expand_as(slot)
    beside = Tags(slot, (places - 1)[:, None].expand_as(slot), torch.zeros_like(slot), number)
    tags = Tags(*(torch.cat((a, b.flatten()))[None] for a, b in zip(here, beside, strict=True)))
    content = torch.cat((row, torch.full((slot.numel(),), mask_id)))[None]
    with torch.no_grad():
        hidden = model.network(content, tags.index, make_mask(Branching(), tags, "dense"))
        logits = model.network.head(hidden)[0].float()
    logits[:, mask_id] = float("-inf")
    probabilities = (logits / temperature).softmax(-1).double()
    return probabilities[start - 1 : n - 1], probabilities[n:].view(len(places), size, -1)


def agreement(p: Tensor, q: Tensor) -> dict[str, Tensor]:
    """P(both draw x) by every rule, [..., vocab]; the sum over x is the chance of a draft to be accepted.

    >>> p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    >>> {name: round(float(x.sum()), 3) for name, x in agreement(p, q).items()}
    {'shared number': 0.5, 'likeliest': 0.5, 'shared Gumbel': 0.65, 'rejection': 0.75}
    """
    ends = p.cumsum(-1), q.cumsum(-1)
    both = torch.minimum(*ends) - torch.maximum(ends[0] - p, ends[1] - q)
    top = q.argmax(-1, keepdim=True)
    best = torch.zeros_like(p).scatter(-1, top, p.gather(-1, top))
    # 1 / sum_y max(p_y / p_x, q_y / q_x): sort y by p_y / q_y, and the larger of the two changes once
    ratio = (p.clamp_min(1e-30) / q.clamp_min(1e-30)).sort(-1)
    order = ratio.indices
    p_from = p.gather(-1, order).flip(-1).cumsum(-1).flip(-1)
    q_before = q.gather(-1, order).cumsum(-1) - q.gather(-1, order)
    total = p_from / p.gather(-1, order).clamp_min(1e-30) + q_before / q.gather(-1, order).clamp_min(1e-30)
    gumbel = torch.zeros_like(p).scatter(-1, order, 1 / total)
    return dict(zip(RULES, (both.clamp_min(0), best, gumbel, torch.minimum(p, q)), strict=True))


def forwards(accepted: Tensor) -> float:
    """Expected steps to write m tokens: accepted [m, K], chance of token t + j to be drafted right by the step that
    finds token t, given the text. The first step has no drafts and finds one token.

    >>> forwards(torch.tensor([[1.0, 0.5], [1.0, 0.5], [1.0, 0.5]]))       # the first, and 1 or (if it is wrong) 2 more
    2.5
    """
    m, size = accepted.shape
    left = [0.0] * (m + size)  # steps still to come when token t is the newest
    for t in range(m - 2, -1, -1):
        reached, left[t] = 1.0, 1.0
        for j in range(1, size):
            right = float(accepted[t, j])
            left[t] += reached * (1 - right) * left[t + j]
            reached *= right
        left[t] += reached * left[t + size]
    return 1.0 + left[0]


def measure(model: Any, prompts: list[list[int]], length: int, temperature: float, seed: int) -> dict[str, Any]:
    """Drafts by place, tokens per forward by rule, and those of the library."""
    model = model.with_(temperature=temperature)
    size = model.settings.block_size
    rows = model.complete_all(prompts, length, seed=list(range(seed, seed + len(prompts))), stop=())
    chance = {name: torch.zeros(size, dtype=torch.float64) for name in RULES}
    counted, expected = torch.zeros(size, dtype=torch.float64), dict.fromkeys(RULES, 0.0)
    for prompt, result in zip(prompts, rows, strict=True):
        row = torch.tensor([*prompt, *result.content.tolist()])
        p, q = laws(model, row, len(prompt), temperature)
        m, tokens = len(p), row[len(prompt) :]
        given = {name: torch.zeros(m, size, dtype=torch.float64) for name in RULES}
        for j in range(1, size):
            for name, same in agreement(p[j:], q[: m - j, j]).items():
                chance[name][j] += same.sum()
                x = tokens[j:, None]
                given[name][: m - j, j] = (same.gather(1, x) / p[j:].gather(1, x))[:, 0].clamp(0, 1)
            counted[j] += m - j
        for name in RULES:
            expected[name] += forwards(given[name])
    total = length * len(prompts)
    taken = sum(result.forwards for result in rows)
    return {
        "temperature": temperature,
        "tokens": total,
        "accepted": {name: (chance[name][1:] / counted[1:].clamp_min(1)).tolist() for name in RULES},
        "tokens_per_forward": {name: total / expected[name] for name in RULES},
        "counted_tokens_per_forward": total / taken,
    }


def adapted(steps: int, seed: int) -> Any:
    """The bundled base, adapted to TiDAR on the standard library; nothing stays on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        training = TrainSettings(
            out=Path(folder), steps=steps, batch_rows=8, learning_rate=5e-4, warmup=min(20, steps), seed=seed,
            evaluate_every=steps, evaluate_rows=8, checkpoint_every=steps,
        )  # fmt: skip
        return adapt("base", training, DataSettings(length=128), "tidar")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model of TiDAR; default: the bundled base, adapted for --steps")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--temperatures", default="0.3,0.5,0.8,1")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "acceptance.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = (
        adapted(options.steps, options.seed)
        if options.model is None
        else interlace.load(options.model, system="tidar", dtype="float32")
    )
    asked = code_prompts(list(open_corpus("stdlib", "heldout")), options.prompts, model.tokenizer, 32, options.seed)
    prompts = [model.encode_prompt(prompt.text) for prompt in asked]
    found = []
    for temperature in map(float, options.temperatures.split(",")):
        one = measure(model, prompts, options.length, temperature, options.seed)
        found.append(one)
        print(f"temperature {temperature:g}: {one['counted_tokens_per_forward']:.3f} tokens per forward counted")
        for name in RULES:
            places = " ".join(f"{share:.3f}" for share in one["accepted"][name])
            print(f"  {name:14} {one['tokens_per_forward'][name]:.3f} tokens per forward; drafts accepted {places}")
    write_whole(options.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
