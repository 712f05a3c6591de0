"""Decoding on one machine, in one run: Interlace against ``transformers`` on the same weights, and a block step against
an autoregressive one. Prints milliseconds and ratios, and writes them as JSON.

    python benchmarks/decode.py                      # the bundled shape, batch 1 and 16, float32 and bfloat16
    python benchmarks/decode.py --model PATH --batch 1
    python benchmarks/decode.py --no-compile         # eager only; compiling takes a minute

The contestants take turns, so that a busy moment meets all of them; the figure is each one's best round, and the tokens
of all float32 contestants must be equal. "Fastest" is the better of eager and compiled, float32 and bfloat16, of
each side.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import interlace
from interlace.checkpoints import Checkpoint, save
from interlace.claims.protocol import Machine
from interlace.model import Model
from interlace.nn import Transformer
from interlace.recipes import ShapeSettings
from interlace.report.files import write_whole
from interlace.systems import find

Turn = Callable[[], Tensor]


def random_checkpoint(folder: Path) -> Path:
    """The bundled model's shape with random weights (speed does not depend on the weights)."""
    config = ShapeSettings().config(2048)
    network = Transformer(config).initialise(torch.Generator().manual_seed(0), std=0.05)
    return save(Checkpoint(network, family="qwen3"), folder)


def take_turns(turns: dict[str, Turn], rounds: int, tokens: int) -> dict[str, float]:
    """Best milliseconds per token position of every contestant, the rounds interleaved."""
    best = dict.fromkeys(turns, float("inf"))
    for turn in turns.values():
        turn()
    for _ in range(rounds):
        for name, turn in turns.items():
            began = time.perf_counter()
            turn()
            best[name] = min(best[name], (time.perf_counter() - began) / tokens * 1e3)
    return best


def ours(model: Model, prompts: list[list[int]], length: int) -> Turn:
    def turn() -> Tensor:
        return torch.stack([r.content for r in model.complete_all(prompts, length, stop=())])

    return turn


def theirs(path: Path, dtype: torch.dtype, prompts: list[list[int]], length: int, compile: bool = False) -> Turn:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
    ids = torch.tensor(prompts)
    options = {"cache_implementation": "static"} if compile else {}

    def turn() -> Tensor:
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, min_new_tokens=length,
                do_sample=False, pad_token_id=0, eos_token_id=None, **options,
            )  # fmt: skip
        return out[:, ids.shape[1] :]

    return turn


def loaded(path: Path, dtype: torch.dtype, compile: bool) -> Model:
    model = interlace.load(path, dtype=dtype)
    if compile:
        model.network.compile()
    return model


def block_model(model: Model, block_size: int) -> Model:
    """The same weights read as a block-diffusion model that takes one step a token (the cost is what counts here)."""
    system = find("sdar")
    settings = system.settings.but(mask_id=1, block_size=block_size, reveal="static")
    return Model(replace(model.checkpoint, block_size=block_size), system, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint folder (default: random weights, bundled shape)")
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=64, help="prompt tokens")
    parser.add_argument("--length", type=int, default=128, help="new tokens")
    parser.add_argument("--block-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "decode.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    f32, b16 = torch.float32, torch.bfloat16
    report: dict[str, object] = {"machine": Machine.here().model_dump(), "python": platform.python_version()}
    report |= {"prompt": options.prompt, "length": options.length, "block_size": options.block_size}

    with tempfile.TemporaryDirectory() as folder:
        path = options.model or random_checkpoint(Path(folder) / "model")
        models = {"float32": loaded(path, f32, False), "bfloat16": loaded(path, b16, False)}
        if options.compile:
            models |= {"float32 compiled": loaded(path, f32, True), "bfloat16 compiled": loaded(path, b16, True)}
        for batch in options.batch:
            generator = torch.Generator().manual_seed(batch)
            vocabulary = models["float32"].network.config.vocab_size
            prompts = torch.randint(4, vocabulary, (batch, options.prompt), generator=generator).tolist()
            turns = {f"interlace {name}": ours(model, prompts, options.length) for name, model in models.items()}
            turns["transformers float32"] = theirs(path, f32, prompts, options.length)
            turns["transformers bfloat16"] = theirs(path, b16, prompts, options.length)
            same = torch.equal(turns["interlace float32"](), turns["transformers float32"]())
            best = take_turns(turns, options.rounds, options.length)
            equal = best["transformers float32"] / best["interlace float32"]
            fastest = min(v for k, v in best.items() if k.startswith("transformers")) / min(
                v for k, v in best.items() if k.startswith("interlace")
            )
            ratios = {"equal dtype": equal, "fastest": fastest, "same tokens": same}
            report[f"batch {batch}"] = {"ms per step": best, **ratios}
            print(f"batch {batch}: " + "  ".join(f"{k} {v:.2f} ms" for k, v in best.items()))
            print(f"batch {batch}: equal dtype {equal:.2f}x, each in its fastest {fastest:.2f}x, same tokens: {same}")

        steps: dict[str, float] = {}
        prompts = [list(range(4, 4 + options.prompt))]
        for name, model in models.items():
            block = block_model(model, options.block_size)
            pair = {"ar": ours(model, prompts, options.length), "block": ours(block, prompts, options.length)}
            best = take_turns(pair, options.rounds, options.length)
            steps[name] = best["block"] / best["ar"]
            print(f"a step over a block of {options.block_size} / an autoregressive step, {name}: {steps[name]:.2f}")
        report["block step over autoregressive step"] = steps

    write_whole(options.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
