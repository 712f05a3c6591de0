"""What the checks of text systems share: small networks, their training, and additions with written carries."""

from __future__ import annotations

import copy
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..generation import collect, generate
from ..nn import Transformer, TransformerConfig
from ..systems import Parts, find
from ..training.batch import Rows, TextRows
from ..training.loop import evaluate, train
from ..training.objectives import Objective
from ..training.parallel import start
from ..training.settings import TrainSettings
from ..worlds.additions import Additions
from ..worlds.corpus import Document, Split
from ..worlds.packing import PackedRows, TokenCorpus, tokenize_corpus
from ..worlds.tokenizer import END_ID, MASK_ID, encode
from .protocol import Arm, Findings, Say

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Bench", "Budget", "Cost", "Training"]


@dataclass(frozen=True)
class Budget:
    """What a check may spend; the defaults are the ones whose record is kept."""

    base: int = 160  # optimizer steps of the autoregressive model
    further: int = 160  # of its adaptation, and of its continuation
    rows: int = 24  # per step, of `length` tokens: four additions each
    length: int = 176
    problems: int = 400  # held-out additions
    learning_rate: float = 5e-3
    hidden_size: int = 128
    num_layers: int = 4
    block_size: int = 4


@dataclass(frozen=True)
class Cost:
    """Training so far, from random weights."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Training(ABC):
    """One check at work: networks of one shape on one corpus, and a folder for what training leaves."""

    tokenizer: Tokenizer

    def __init__(self, say: Say, seed: int, budget: Budget, folder: Path) -> None:
        self.say, self.seed, self.budget, self.folder = say, seed, budget, folder
        self.end, self.mask = END_ID, MASK_ID
        self.runs = 0
        self._corpora: dict[Split, TokenCorpus] = {}

    @classmethod
    def check(cls, say: Say, seed: int, budget: Budget) -> Findings:
        """Train the arms and compare them; nothing stays on the disk."""
        with tempfile.TemporaryDirectory() as folder:
            return cls(say, seed, budget, Path(folder)).run()

    @abstractmethod
    def run(self) -> Findings:
        """Train the arms, measure each, and say what was found."""

    @abstractmethod
    def documents(self, split: Split) -> Iterator[Document]:
        """The corpus."""

    def corpus(self, split: Split) -> TokenCorpus:
        """Its tokens."""
        if split not in self._corpora:
            self._corpora[split] = tokenize_corpus(self.documents(split), self.tokenizer)
        return self._corpora[split]

    def rows(self, split: Split, multiple: int = 1, seed: int = 0, joined: bool = False) -> Rows:
        """Its rows, documents on multiples of ``multiple`` tokens; ``joined``: cut out of all documents as one."""
        corpus = self.corpus(split).joined() if joined else self.corpus(split)
        return TextRows(PackedRows(corpus, self.budget.length, multiple, seed, self.end))

    def network(self) -> Transformer:
        """Random weights, the same at every call."""
        b = self.budget
        config = TransformerConfig(
            vocab_size=self.tokenizer.get_vocab_size(),
            hidden_size=b.hidden_size,
            intermediate_size=b.hidden_size * 11 // 4,
            num_layers=b.num_layers,
            head_dim=b.hidden_size // 4,
            max_positions=b.length,
        )
        return Transformer(config).initialise(torch.Generator().manual_seed(self.seed))

    def parts(self, name: str, **changes: object) -> Parts:
        """A system's parts, with the block size of the budget."""
        system = find(name)
        block_size = self.budget.block_size if name != "ar" else None
        return system.parts(system.settings.but(**{"mask_id": self.mask, "block_size": block_size} | changes))

    def begin(self) -> tuple[Transformer, Cost]:
        """The autoregressive network that all arms start from."""
        self.say(f"autoregression, {self.budget.base} steps")
        base = self.network()
        return base, self.train(base, self.parts("ar").objective, 1, self.budget.base, Cost())

    def adapted(
        self,
        base: Transformer,
        cost: Cost,
        objective: Objective,
        what: str,
        multiple: int | None = None,
        joined: bool = False,
    ) -> tuple[Transformer, Cost]:
        """A copy of a network, trained further. ``joined``: on rows in which documents are not kept apart."""
        self.say(f"{what}, {self.budget.further} steps")
        network = copy.deepcopy(base)
        multiple = self.budget.block_size if multiple is None else multiple
        return network, self.train(network, objective, multiple, self.budget.further, cost, joined)

    def train(
        self,
        network: Transformer,
        objective: Objective,
        multiple: int,
        steps: int,
        before: Cost,
        joined: bool = False,
    ) -> Cost:
        """Go on training, documents on multiples of ``multiple`` tokens; the cost, with what was spent before."""
        b = self.budget
        self.runs += 1
        seed = 1000 * self.seed + self.runs  # every stage has an order and noise of its own
        rows = self.rows("train", multiple, seed, joined)
        settings = TrainSettings(
            out=self.folder / f"run{self.runs}",
            steps=steps,
            batch_rows=b.rows,
            learning_rate=b.learning_rate,
            warmup=min(30, steps // 2),
            optimizer="muon",
            seed=seed,
            evaluate_every=steps,
            checkpoint_every=steps,
        )
        took: dict[str, float] = {}
        train(network, objective, rows, settings, on_log=took.update)
        network.eval()
        tokens = before.tokens + steps * b.rows * b.length
        return Cost(before.steps + steps, tokens, before.seconds + took["seconds"])

    def next_token_loss(self, network: Transformer) -> float:
        """Nats per token of held-out rows."""
        return evaluate(network, self.parts("ar").objective, self.rows("heldout"), 32)["loss"]

    def shape(self) -> str:
        """The network and its training, in a line."""
        b = self.budget
        size = sum(p.numel() for p in self.network().parameters())
        precision = TrainSettings(out=self.folder).autocast(start().device)
        return (
            f"{b.num_layers} layers, width {b.hidden_size}, {size / 1e6:.2f} M parameters; block_size {b.block_size}; "
            f"{b.rows} rows of {b.length} tokens a step, Muon {b.learning_rate}, {precision}"
        )


class Bench(Training):
    """Additions with written carries: the arms answer the same held-out ones. A check is a ``run`` of it."""

    def __init__(self, say: Say, seed: int, budget: Budget, folder: Path) -> None:
        super().__init__(say, seed, budget, folder)
        self.world = Additions()
        self.tokenizer = self.world.tokenizer()
        self.prompts = self.world.prompts(budget.problems, seed)

    def documents(self, split: Split) -> Iterator[Document]:
        return self.world.documents(split)

    def continued(self, base: Transformer, cost: Cost) -> Arm:
        """The baseline: the same autoregression, trained further."""
        ar = self.parts("ar")
        network, spent = self.adapted(base, cost, ar.objective, "autoregression continued", 1)
        more = {"next-token loss": self.next_token_loss(network)}
        return self.arm(network, ar, spent, "the same, trained further", more=more)

    def arm(
        self,
        network: Transformer,
        parts: Parts,
        cost: Cost,
        about: str,
        apart: bool = False,
        more: Mapping[str, float] | None = None,
    ) -> Arm:
        """Answers to the held-out additions; ``apart``: also the forwards when none is shared with a commit."""
        right, tokens, forwards, slots = self.answers(network, parts)
        numbers = {"exact match": right / len(self.prompts), "tokens per forward": tokens / forwards}
        if apart:
            again = self.answers(network, parts, fuse=False)[2]
            numbers["tokens per forward, commits counted apart"] = tokens / again
        else:
            numbers["token slots per token"] = slots / max(1, tokens)
        return Arm(
            numbers=numbers | dict(more or {}),
            steps=cost.steps,
            tokens=cost.tokens,
            seconds=round(cost.seconds, 1),
            about=about,
        )

    def answers(self, network: Transformer, parts: Parts, fuse: bool = True) -> tuple[int, int, int, int]:
        """How many answers are right in every character; tokens, forwards, and token slots behind the prompts."""
        right = tokens = forwards = slots = 0
        length = len(self.world.complete(self.prompts[0])) + 1  # the end token
        for prompts in _batches(self.prompts, 100):
            ids = [encode(self.tokenizer, prompt) for prompt in prompts]
            events = generate(network, ids, length, stop=(self.end,), fuse=fuse, **parts.sampling)
            found = collect(events, ids, length, (self.end,))
            for prompt, known, result in zip(prompts, ids, found, strict=True):
                right += self.world.verify(prompt, self.tokenizer.decode(result.content.tolist()))
                tokens += len(result.content)
                forwards += result.forwards
                slots += result.slots - len(known)
        return right, tokens, forwards, slots

    def setting(self) -> str:
        """The world, the shape and the training, in a line."""
        return f"3-digit additions with written carries, a token per character; {self.shape()}"


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
