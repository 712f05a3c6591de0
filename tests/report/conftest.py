"""A small world: made-up Python files, a tokenizer, an untrained base and twin, and a quickstart over them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from interlace.checkpoints import Checkpoint, save
from interlace.nn import Transformer, TransformerConfig
from interlace.worlds import corpus
from interlace.worlds.corpus import Document
from interlace.worlds.tokenizer import END_ID, MASK_ID, train_tokenizer

NAMES = ("width", "height", "depth", "total", "count", "value")


def source(number: int) -> str:
    """A file of short functions; no two files are equal."""
    parts = [f'"""File {number}."""\n', "import math\n\n"]
    for i in range(13):
        name = NAMES[i % len(NAMES)]
        other = NAMES[(i + number) % len(NAMES)]
        parts.append(
            f"def {name}_{number}_{i}(first, second={i}):\n"
            f'    """The {name} of {number}."""\n'
            f"    {other} = first + second * {number}\n"
            f"    if {other} > {i}:\n"
            f"        return math.sqrt({other})\n"
            f"    return {other} - {i}\n\n\n"
        )
    return "".join(parts)


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    return [Document(f"file{number}.py", source(number)) for number in range(36)]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> tuple[Path, Path]:
    """Folders of an autoregressive and a block-diffusion model with random weights."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([d.text for d in documents], 320)
    config = TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=16, num_layers=1, num_heads=2,
        num_kv_heads=1, head_dim=8, max_positions=512,
    )  # fmt: skip
    for seed, (name, family, block_size) in enumerate((("base", "qwen3", None), ("twin", "sdar", 4))):
        network = Transformer(config).initialise(torch.Generator().manual_seed(seed), std=0.2)
        checkpoint = Checkpoint(network, tokenizer, family, block_size, MASK_ID, (END_ID,), pad_token_id=END_ID)
        save(checkpoint, folder / name)
    return folder / "base", folder / "twin"


@pytest.fixture(scope="session")
def small_library(documents: list[Document]) -> Any:
    """Stands for the standard library: eight files to train on, 28 held out."""

    def standard_library(split: str = "train") -> Any:
        return iter(documents[:8] if split == "train" else documents[8:])

    return standard_library


class Run:
    """A quickstart that was run: its folder, its numbers and what it printed."""

    def __init__(self, out: Path, numbers: dict[str, Any], printed: str) -> None:
        self.out, self.numbers, self.printed = out, numbers, printed

    @property
    def page(self) -> str:
        return (self.out / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path], small_library: Any) -> Run:
    """A whole quickstart over the small world, without a terminal."""
    from interlace.quickstart import QuickstartSettings, quickstart
    from interlace.report.terminal import Terminal

    out = tmp_path_factory.mktemp("quickstart")
    (out / ".adapting-left-behind").mkdir()
    screen = io.StringIO()
    settings = QuickstartSettings(
        base=str(models[0]), twin=str(models[1]), out=out, seconds=1.0, prompts=4, length=12, holes=4,
        thresholds=(1.0, 0.0), shown=2, batch_rows=2, row_length=64,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "standard_library", small_library)
        numbers = quickstart(settings, Terminal(Console(file=screen, width=120)))
    return Run(out, numbers, screen.getvalue())
