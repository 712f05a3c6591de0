"""How near a block-diffusion model is to its base, where both say the next token: decoded one by one, left to right.

    python benchmarks/agreement.py
    python benchmarks/agreement.py --model DIR --base DIR

In every block the tokens before a place are known, and that place and those behind it are masks: what the model says
there is its next-token distribution. Given are its nats per token and the base's, KL(base, model) in nats, and the
share of places where both find the same token likeliest, over held-out rows of the standard library.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import interlace
from interlace.attention.kernels import make_mask
from interlace.attention.patterns import Causal, Tags
from interlace.report.files import write_whole
from interlace.training.batch import Batch
from interlace.training.objectives import TwoCopyLoss
from interlace.training.teacher import in_order
from interlace.training.text import DataSettings, text_rows


def next_tokens(model: Any, batch: Batch) -> Tensor:
    """log p of the token at every place, given all before it, [rows, n, vocab]; one forward for each place of a block.

    Raises ``SystemExit`` for a model that was not trained on a noisy and a clean copy, or predicts at the token before.
    """
    objective, layout = model.parts.objective, model.parts.layout
    if not isinstance(objective, TwoCopyLoss) or objective.arrangement or objective.process.shift:
        raise SystemExit(f"{model.system.name} does not predict a masked token of a block at its own place")
    rows, n = batch.content.shape
    tag = torch.tensor([1, 0]).repeat_interleave(n).expand(rows, -1)
    unit = layout.unit(batch.index)
    mask = make_mask(objective.pattern, Tags(*(t.repeat(1, 2) for t in (batch.index, unit, batch.document)), tag))
    found = torch.zeros(rows, n, model.network.config.vocab_size)
    for first in range(layout.size):
        here = batch.index % layout.size
        noisy = batch.content.masked_fill(here >= first, model.checkpoint.mask_token_id)
        both = torch.cat((noisy, batch.content), 1)
        hidden = model.network(both, batch.index.repeat(1, 2), mask)[:, :n]
        found[here == first] = model.network.head(hidden[here == first]).log_softmax(-1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="twin")
    parser.add_argument("--base", default="base")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=192)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "agreement.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base, model = (interlace.load(name, dtype="float32") for name in (options.base, options.model))
    data = DataSettings(data="stdlib", length=options.length)
    batch = text_rows(data, base.tokenizer, "heldout", model.parts.layout.size).batch(range(options.rows))
    with torch.no_grad():
        mine = next_tokens(model, batch)[:, 1:]
        theirs = base.network.head(in_order(base.network, batch, Causal()))[:, :-1].log_softmax(-1)
    told = (batch.document[:, 1:] >= 0) & (batch.index[:, 1:] > 0)
    mine, theirs, token = mine[told], theirs[told], batch.content[:, 1:][told][:, None]
    found = {
        "model": options.model,
        "places": len(token),
        "nats": -mine.gather(1, token).mean().item(),
        "nats of the base": -theirs.gather(1, token).mean().item(),
        "KL(base, model)": (theirs.exp() * (theirs - mine)).sum(-1).mean().item(),
        "same likeliest token": (mine.argmax(-1) == theirs.argmax(-1)).float().mean().item(),
    }
    for name, value in found.items():
        print(f"{name:22} {round(value, 4) if isinstance(value, float) else value}")
    write_whole(options.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
