"""interlace reinforce: what it says, what it leaves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from interlace.checkpoints import Checkpoint, save
from interlace.model import load
from interlace.nn import Transformer, TransformerConfig
from interlace.worlds.puzzle import puzzle
from interlace.worlds.tokenizer import END_ID, MASK_ID

RUN = ("--steps", 2, "--evaluate-rows", 3, "--precision", "fp32", "--num-prompts", 2, "--num-generations", 3)


@pytest.fixture
def half(tmp_path: Path) -> str:
    tokenizer = puzzle("countdown").tokenizer()
    config = TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=24, num_layers=1, num_heads=2,
        num_kv_heads=2, head_dim=8, max_positions=64, tied=False, qk_norm=False,
    )  # fmt: skip
    network = Transformer(config).initialise(torch.Generator().manual_seed(0), std=0.3)
    checkpoint = Checkpoint(
        network, tokenizer, "llada", block_size=8, stop_token_ids=(END_ID,), mask_token_id=MASK_ID
    )
    return str(save(checkpoint, tmp_path / "half"))


def test_a_model_reinforced(call: Any, half: str, tmp_path: Path) -> None:
    out = tmp_path / "better"
    options = ("-m", half, "--world", "countdown", "--out", out, "--system", "eoser-ass-cjgrpo", *RUN)
    result = call("reinforce", *options, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["step"] == 2 and found["system"] == "eoser-ass-cjgrpo" and 0 <= found["held_out_reward"] <= 1
    assert "method           cj-grpo, 2 problems x 3 answers, 3 denoising steps" in result.stderr
    metrics = [json.loads(line) for line in (out / "training/metrics.jsonl").read_text().splitlines()]
    assert {"reward", "kl", "clipped", "loss"} <= metrics[0].keys()
    assert load(out).system.name == "eoser-ass-cjgrpo"
    other = call("reinforce", *options, "--beta", 0.5)
    assert other.exit_code == 2 and "holds a run with other settings (beta 0.04 -> 0.5)" in other.stderr


def test_adapters_reinforced(call: Any, half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    # an untrained model solves nothing: here every letter less is worth something
    monkeypatch.setattr(type(puzzle("countdown")), "reward", lambda self, prompt, text: 1 / (1 + len(text)))
    out = tmp_path / "beside"
    options = ("-m", half, "--world", "countdown", "--out", out, *RUN, "--set", "steps=4", "--learning-rate", 0.01)
    result = call("reinforce", *options, "--lora", 2)
    assert result.exit_code == 0, result.output
    assert "adapters of rank 2, alpha 4, on q_proj, k_proj, " in result.stderr and ", frozen" in result.stderr
    one, other, base = (dict(load(folder).network.named_parameters()) for folder in (out, out / "adapter", half))
    moved = {name for name in base if not torch.equal(one[name], base[name])}
    assert moved == {f"blocks.0.{name}.weight" for name in ("attention.qkv", "attention.out", "mlp.up", "mlp.down")}
    assert all(torch.equal(one[name], other[name]) for name in one)
    refused = call("reinforce", *options)
    assert refused.exit_code == 2 and "other settings (lora 2 -> None)" in refused.stderr
    idle = call("reinforce", *options, "--lora-alpha", 3)
    assert idle.exit_code == 2 and "--lora-alpha is about low-rank adapters" in idle.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--world", "chess"), "unknown world 'chess'; known: sums, countdown, sudoku"),
        (("--method", "ppo"), "--method is 'ppo'; pass 'cj-grpo', 'one-step' or 'diffu-grpo'"),
        (("--num-generations", 1), "--num-generations is 1; pass 2 or more"),
        (("--system", "tidar"), "tidar does not reveal masks step by step"),
        (("--set", "top_k=3"), "top_k and top_p cut what the policy can say"),
        (("--set", "ste=3"), "unknown setting 'ste'"),
    ],
)
def test_mistakes_are_told_in_a_line(call: Any, half: str, tmp_path: Path, options: Any, message: str) -> None:
    given = {"--model": half, "--world": "sums", "--out": tmp_path / "x"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    result = call("reinforce", *(part for pair in given.items() for part in pair), *RUN[:2])
    assert result.exit_code == 2 and message in result.stderr, result.output
