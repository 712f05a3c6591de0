"""Autoregression, the special case: a plain greedy loop, and `transformers`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interlace.attention.patterns import BlockCausal, Causal
from interlace.layouts import Blocks
from interlace.nn import Transformer
from interlace.processes import NextToken
from interlace.schedules import BlockByBlock, TokenByToken

from .conftest import run, text_network, tokens

AR = {"layout": Blocks(1), "pattern": Causal()}


@torch.no_grad()
def greedy(network: Transformer, prompt: list[int], length: int) -> tuple[list[int], list[float]]:
    row, log_prob = list(prompt), []
    for _ in range(length):
        n = len(row)
        mask = torch.tensor([[j <= i for j in range(n)] for i in range(n)])
        hidden = network(torch.tensor([row]), torch.arange(n)[None], mask[None, None])
        probabilities = network.head(hidden)[0, -1].log_softmax(-1)
        row.append(int(probabilities.argmax()))
        log_prob.append(float(probabilities.max()))
    return row[len(prompt) :], log_prob


@pytest.mark.parametrize("kind", ["grouped", "biases", "experts"])
def test_a_plain_greedy_loop(kind: str) -> None:
    prompts, lengths = [tokens(1), tokens(9, 1), tokens(4, 2)], [12, 5, 9]
    rows = run(text_network(kind), prompts, lengths, NextToken(), TokenByToken(), **AR)
    for prompt, length, row in zip(prompts, lengths, rows, strict=True):
        content, log_prob = greedy(text_network(kind), prompt, length)
        assert row.content.tolist() == content
        assert row.log_prob is not None and row.order is not None
        torch.testing.assert_close(row.log_prob, torch.tensor(log_prob), rtol=0, atol=1e-4)
        assert row.order.tolist() == [0] * length
        assert row.forwards == length


def test_blocks_of_one_token_in_one_step_are_the_same_path() -> None:
    one = run(text_network(), [tokens(5)], 8, NextToken(), TokenByToken(), **AR)[0]
    blocks = {"layout": Blocks(1), "pattern": BlockCausal()}
    other = run(text_network(), [tokens(5)], 8, NextToken(), BlockByBlock(1), **blocks)[0]
    assert one.content.tolist() == other.content.tolist()


def test_as_transformers_generates(tmp_path: Path) -> None:
    """A random Qwen3 saved by `transformers`, opened here: the same greedy continuations, and the same stop."""
    transformers = pytest.importorskip("transformers")
    from interlace.model import load

    config = transformers.Qwen3Config(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    theirs = transformers.Qwen3ForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3, generator=generator)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path)
    assert ours.system.name == "ar"
    prompts = [tokens(6), tokens(2, 1), tokens(11, 2)]
    rows = ours.complete_all(prompts, 14)
    for prompt, row in zip(prompts, rows, strict=True):
        expected = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=14)[0].tolist()
        assert row.row.tolist() == expected
    stop = int(rows[0].content[5])
    first = rows[0].content.tolist().index(stop)
    stopped = ours.complete(prompts[0], 14, stop=(stop,))
    expected = theirs.generate(
        torch.tensor(prompts[:1]), do_sample=False, max_new_tokens=14, eos_token_id=stop, pad_token_id=0
    )[0].tolist()
    assert stopped.stopped and stopped.row.tolist() == expected[:-1] and len(stopped.content) == first
    assert len(set(rows[0].content.tolist())) >= 4, "a constant continuation would agree by chance"
