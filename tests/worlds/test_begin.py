"""What a tokenizer puts before a text: as transformers has it, before prompts and documents, never before token ids."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers import processors as post

from interlace.checkpoints import Checkpoint, save
from interlace.checkpoints import load as load_checkpoint
from interlace.continuations import continuations
from interlace.evaluation.completion import complete
from interlace.evaluation.harness import Harness
from interlace.evaluation.likelihood import likelihood
from interlace.evaluation.solving import ask
from interlace.model import Model, load
from interlace.nn import Transformer, TransformerConfig
from interlace.recipes import adapt
from interlace.reinforcement import judge
from interlace.report.trace import trace
from interlace.systems import find
from interlace.tasks import task
from interlace.training.settings import TrainSettings
from interlace.training.text import DataSettings
from interlace.worlds.corpus import Document
from interlace.worlds.packing import tokenize_corpus
from interlace.worlds.puzzle import puzzle
from interlace.worlds.tokenizer import begin, encode, encode_prompt
from interlace.worlds.verifiers import Prompt

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
TEXT = "one two three, two one. three!\n" * 8
TEXTS = ["one two", " three", "", "<s> one", "a\nb", "é 3"]


def tokenizer(kind: str = "bytes") -> Tokenizer:
    """Special tokens 0, 1, 2; byte-level as Llama 3's, or pieces with bytes to fall back on as Llama 2's."""
    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token=PAD))
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = []
    special = [AddedToken(one, special=True, normalized=False) for one in (BOS, EOS, PAD)]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator([TEXT], trainer)
    return made


def template(single: str) -> Any:
    return post.TemplateProcessing(single=single, special_tokens=[(BOS, 0), (EOS, 1)])


PROCESSORS: dict[str, tuple[Any, list[int], list[int]]] = {
    "nothing": (None, [], []),
    "bytes alone": (post.ByteLevel(trim_offsets=False), [], []),
    "begin": (template(f"{BOS} $A"), [0], []),
    "begin, in a sequence": (post.Sequence([post.ByteLevel(trim_offsets=False), template(f"{BOS} $A")]), [0], []),
    "begin and end": (template(f"{BOS} $A {EOS}"), [0], [1]),
    "end": (template(f"$A {EOS}"), [], [1]),
    "two": (template(f"{BOS} {EOS} $A"), [0, 1], []),
    "roberta": (post.RobertaProcessing((EOS, 1), (BOS, 0)), [0], [1]),
}


@pytest.mark.parametrize("name", list(PROCESSORS))
@pytest.mark.parametrize("said", [{}, {"add_bos_token": True}, {"add_bos_token": False}], ids=str)
@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("bytes", "PreTrainedTokenizerFast"),
        ("bytes", "LlamaTokenizerFast"),
        ("bytes", "Qwen2TokenizerFast"),
        ("pieces", "PreTrainedTokenizerFast"),
        ("pieces", "LlamaTokenizerFast"),
    ],
)
def test_it_is_what_transformers_puts_there(kind: str, name: str, said: Any, cls: str, tmp_path: Path) -> None:
    """tokenizer_config.json may say otherwise: beside a tokenizer.json it is not asked."""
    transformers = pytest.importorskip("transformers")
    processor, first, last = PROCESSORS[name]
    made = tokenizer(kind)
    if processor is not None:
        made.post_processor = processor
    made.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": cls, "bos_token": BOS, "eos_token": EOS, "pad_token": PAD, **said}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert begin(made) == begin(theirs) == first
    for text in TEXTS:
        plain = theirs(text, add_special_tokens=False).input_ids
        assert theirs(text).input_ids == [*begin(made), *plain, *last]


def model(beginning: bool = True, system: str = "llada", folder: Path | None = None) -> Model:
    made = tokenizer()
    if beginning:
        made.post_processor = template(f"{BOS} $A")
    config = TransformerConfig(
        vocab_size=made.get_vocab_size() + 1, hidden_size=16, intermediate_size=16, num_layers=1, num_heads=2,
        num_kv_heads=2, head_dim=8, max_positions=64, tied=False, qk_norm=False,
    )  # fmt: skip
    network = Transformer(config).initialise(torch.Generator().manual_seed(0), std=0.7).eval()
    chosen = find(system)
    mask = None if system == "ar" else config.vocab_size - 1
    family = "llama" if system == "ar" else "llada"
    checkpoint = Checkpoint(network, made, family, stop_token_ids=(1,), mask_token_id=mask)
    if folder is not None:
        checkpoint = load_checkpoint(save(checkpoint, folder))
    return Model(checkpoint, chosen, chosen.settings.read(mask_id=mask or 0).but(block_size=4 if mask else None))


@pytest.mark.parametrize("system", ["ar", "llada"])
def test_texts_begin_with_it_and_token_ids_do_not(system: str) -> None:
    made, plain = model(system=system), model(False, system)
    ids = encode(made.tokenizer, "one two")
    assert made.encode("one two") == ids and made.encode_prompt("one two") == [0, *ids] == [0, *plain.encode("one two")]
    asked = [made.complete(prompt, 8, stop=(), details=True) for prompt in ("one two", [0, *ids], ids)]
    assert asked[0].row.tolist()[: len(ids) + 1] == [0, *ids] and asked[0].row.tolist() == asked[1].row.tolist()
    assert asked[2].row.tolist()[: len(ids)] == ids
    assert asked[0].log_prob is not None and asked[2].log_prob is not None
    assert not torch.equal(asked[0].log_prob, asked[2].log_prob)
    assert plain.complete("one two", 8, stop=()).row.tolist()[: len(ids)] == ids


def test_every_way_of_asking_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Completions, continuations, traces, tasks, rewards."""
    made, prompts = model(), ["one two", "three"]
    given: list[list[list[int]]] = []

    def spy(self: Model, ids: Any, *arguments: Any, **options: Any) -> Any:
        given.append([list(row) for row in ids])
        return stream(self, ids, *arguments, **options)

    stream = Model.stream
    monkeypatch.setattr(Model, "stream", spy)
    complete(made, [Prompt(text, text, "") for text in prompts], 4)
    next(continuations(made, prompts, length=12))
    list(trace(made, prompts[0], 4))
    assert len(given) >= 3 and all(row[0] == 0 and row.count(0) == 1 for ids in given for row in ids)
    (asked,) = ask(made, [task({"prompt": "one two", "verifier": "number", "answer": 3})], 4)
    assert asked.ids == made.encode_prompt("one two")
    _, answers = judge(made.network, made.parts, made.tokenizer, (1,), 4, puzzle("sums"), puzzle("sums").problems(2))
    assert [int(answer.row[0]) for answer in answers] == [0, 0]


def test_a_gap_has_it_before_the_prefix_alone() -> None:
    made = model()
    before, after = made.encode("one"), made.encode(" two")
    found = made.infill("one", " two", 3).row.tolist()
    assert found == made.infill([0, *before], after, 3).row.tolist()
    assert found[:1] == [0] and found.count(0) == 1 and found[-len(after) :] == after


def test_likelihoods_begin_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(system="ar")
    seen: list[list[int]] = []
    made.network.register_forward_pre_hook(lambda module, given: seen.append(given[0][0].tolist()))
    likelihood(made, ["one two three"])
    assert seen[0] == [0, *made.encode("one two three")][:-1]
    harness = Harness(made)
    assert harness.encode("one") == [0, *made.encode("one")] == harness.encode(f"{BOS}one")


def test_documents_begin_with_it(tmp_path: Path) -> None:
    made, plain = model().tokenizer, model(False).tokenizer
    documents = [Document("a", "one two"), Document("b", "three", ended=False)]
    ids = [encode(made, document.text) for document in documents]
    cache = tmp_path / "cache"
    for _ in range(2):  # the second from the cache
        begun = tokenize_corpus(documents, made, cache, end_id=1)
        assert np.array_equal(begun.tokens, [0, *ids[0], 1, 0, *ids[1]]) and begun.starts[1] == len(ids[0]) + 2
    assert np.array_equal(tokenize_corpus(documents, plain, cache, end_id=1).tokens, [*ids[0], 1, *ids[1]])


def test_a_model_with_its_own_begin_and_end_is_adapted(tmp_path: Path) -> None:
    """Llama's names for what begins and ends a text: documents have both, and the adapted model keeps them."""
    lines = [json.dumps({"text": f"one {i} two three"}) for i in range(60)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    base = model(system="ar", folder=tmp_path / "base")
    training = TrainSettings(out=tmp_path / "out", steps=1, batch_rows=2, evaluate_rows=1, precision="fp32", warmup=0)
    shown: list[Any] = []
    made = adapt(
        base, training, DataSettings(data=str(tmp_path / "corpus.jsonl"), length=32), "llada", 4,
        on_start=lambda becoming, rows, adapters: shown.append(rows.batch([0])),
    )  # fmt: skip
    content, document = shown[0].content[0], shown[0].document[0]
    for number in range(int(document.max()) + 1):
        one = content[document == number].tolist()
        assert one[0] == 0 and one.count(0) == 1 and one[-1] == 1
    assert made.encode_prompt("one ")[:2] == content[:2].tolist()
    again = load(tmp_path / "out")
    assert begin(again.tokenizer) == [0] and encode_prompt(again.tokenizer, "one") == made.encode_prompt("one")


def test_replacing_the_tokenizer_counts_at_once() -> None:
    """Nothing is remembered of it."""
    made = model(False)
    assert made.encode_prompt("one") == made.encode("one")
    other = replace(made, checkpoint=replace(made.checkpoint, tokenizer=model().tokenizer))
    assert other.encode_prompt("one")[0] == 0
