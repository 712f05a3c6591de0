"""Two tiny random checkpoints, an autoregressive one and a block-diffusion one, and a way to call the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from interlace.attention.positions import Rope
from interlace.checkpoints import Checkpoint, save
from interlace.cli import app
from interlace.model import Model, load
from interlace.nn import Transformer, TransformerConfig
from interlace.worlds.tokenizer import END_ID, MASK_ID, train_tokenizer

SOURCE = '''"""Shapes."""


def area(width, height):
    """Of a rectangle."""
    size = width * height
    return size


def volume(width, height, depth):
    base = area(width, height)
    return base * depth
'''


def checkpoint(family: str, block_size: int | None, **shape: Any) -> Checkpoint:
    """Random weights that are wide enough for the likeliest token to depend on the context."""
    tokenizer = train_tokenizer([SOURCE], 300)
    config = TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=24,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_positions=128,
        **{"rope": Rope((100.0,)), **shape},
    )
    network = Transformer(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=0.7, generator=generator)
    return Checkpoint(
        network,
        tokenizer,
        family,
        block_size=block_size,
        mask_token_id=MASK_ID if block_size else None,
        stop_token_ids=(END_ID,),
        pad_token_id=END_ID,
    )


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An autoregressive checkpoint."""
    return str(save(checkpoint("qwen3", None), tmp_path_factory.mktemp("models") / "base"))


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A block-diffusion checkpoint of blocks of 4."""
    return str(save(checkpoint("sdar", 4), tmp_path_factory.mktemp("models") / "twin"))


@pytest.fixture(scope="session")
def base_model(base: str) -> Model:
    return load(base)


@pytest.fixture(scope="session")
def twin_model(twin: str) -> Model:
    return load(twin)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of Python, of which one or more are held out."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(12):
        text = SOURCE.replace("area", f"area_{number}").replace("volume", f"volume_{number}")
        (folder / f"shapes_{number}.py").write_text(text * 3)
    return folder


@pytest.fixture
def call() -> Callable[..., Any]:
    """``call("generate", "def", ...)``: the result with exit_code, stdout and stderr; nothing of it is a traceback."""

    def run(*arguments: object, input: str | bytes | None = None) -> Any:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=input, prog_name="interlace")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture
def fails(call: Callable[..., Any]) -> Callable[..., str]:
    """Call what must fail with status 2, print nothing, and say why in one line: that line."""

    def run(*arguments: object, input: str | bytes | None = None) -> str:
        result = call(*arguments, input=input)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
        return lines[0].removeprefix("error: ")

    return run
