"""Learning from a teacher's probabilities: the same loss in the mean, and where it may not be used."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.attention.patterns import BlockCausal, Causal, Pattern, Tags, TwoCopy
from interlace.errors import SettingError
from interlace.layouts import Blocks
from interlace.nn import Transformer, TransformerConfig
from interlace.processes import UniformTokens
from interlace.systems import find
from interlace.training.batch import Batch
from interlace.training.objectives import TwoCopyLoss
from interlace.training.teacher import Teacher, ahead_of_nothing

WORDS, MASK, LENGTH = 2, 2, 6
SHAPE: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8,
    "max_positions": 16,
}  # fmt: skip


def network(vocabulary: int, seed: int) -> Transformer:
    generator = torch.Generator().manual_seed(seed)
    made = Transformer(TransformerConfig(vocab_size=vocabulary, **SHAPE))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.4, generator=generator)
    return made.eval().requires_grad_(False)


STUDENT, TEACHER = network(WORDS + 1, 1), Teacher(network(WORDS, 2))


def row(text: tuple[int, ...], number: int, **changes: Any) -> Batch:
    index = torch.arange(len(text))[None]
    return replace(Batch(torch.tensor([text]), torch.zeros_like(index), index, [number]), **changes)


def chances() -> dict[tuple[int, ...], float]:
    """Every text, and how often the teacher writes it behind a first token that is drawn evenly."""
    texts = list(itertools.product(range(WORDS), repeat=LENGTH))
    data = torch.tensor(texts)
    index = torch.arange(LENGTH).expand(len(texts), -1)
    from interlace.training.teacher import in_order

    batch = Batch(data, torch.zeros_like(data), index, list(range(len(texts))))
    said = TEACHER.network.head(in_order(TEACHER.network, batch, Causal())).log_softmax(-1)
    each = said[:, :-1].gather(2, data[:, 1:, None]).sum((1, 2)).double().exp() / WORDS
    return dict(zip(texts, each.tolist(), strict=True))


@pytest.mark.parametrize("seed", (4, 5, 9))
@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ("sdar", {}), ("fast-dllm-v2", {"block_size": 3}), ("efficient-dlm", {}), ("wedlm", {}), ("tidar", {}),
        ("llada", {}),
    ],
)  # fmt: skip
def test_in_the_mean_over_its_own_texts_a_teacher_changes_no_loss(system: str, changes: Any, seed: int) -> None:
    """E[-log q(x_i | seen)] = E[-sum_v p(v | x_<i) log q(v | seen)], for the same masks."""
    chosen = find(system)
    settings = chosen.settings.but(**{"block_size": 3, **changes}).read(mask_id=MASK)
    plain = chosen.parts(settings).objective
    taught = replace(plain, teacher=TEACHER)
    hard, soft, count, several = 0.0, 0.0, 0.0, set()
    for text, chance in chances().items():
        data = row(text, 0)  # of one number: with the same noise
        one, other = plain(STUDENT, data, seed, 0), taught(STUDENT, data, seed, 0)
        hard, soft = hard + chance * float(one.total), soft + chance * float(other.total)
        count += float(other.parts["taught"])
        several.add(round(float(one.total - other.total), 6))
    assert hard == pytest.approx(soft, rel=1e-5)
    assert (count > 0) == (len(several) > 1)


def test_what_is_taught_is_the_cross_entropy_with_the_teacher() -> None:
    """The last token of a row, masked alone."""
    from interlace.training.objectives import NextTokenLoss

    layout, process = Blocks(3), find("sdar").parts(find("sdar").settings.read(mask_id=MASK)).process
    taught = TwoCopyLoss(process, layout, TwoCopy(BlockCausal()), teacher=TEACHER)
    given = torch.ones(1, LENGTH, dtype=torch.bool)
    given[:, -1] = False
    data = row((0, 1, 1, 0, 1, 0), 0, given=given)
    seed = next(s for s in range(50) if float(taught(STUDENT, data, s, 0).parts["learnt"]))
    level = taught.draw(data, seed, 0)[0][:, -1]
    plain = replace(taught, teacher=None)
    by_word = []  # the loss, had the text each of the words there
    for word in range(WORDS):
        content = data.content.clone()
        content[0, -1] = word
        by_word.append(float(plain(STUDENT, replace(data, content=content), seed, 0).total))
    ahead = row((0, 1, 1, 0, 1), 0)
    said = [float(NextTokenLoss()(TEACHER.network, row((0, 1, 1, 0, 1, w), 0), 0, 0).total) for w in range(WORDS)]
    before = float(NextTokenLoss()(TEACHER.network, ahead, 0, 0).total)
    chance = torch.tensor([before - one for one in said]).exp()
    assert float(chance.sum()) == pytest.approx(1, abs=1e-5)
    assert 0 < float(level) <= 1
    assert float(taught(STUDENT, data, seed, 0).total) == pytest.approx(float(chance @ torch.tensor(by_word)), rel=1e-5)


@pytest.mark.parametrize("temperature", (0.5, 2.0))
def test_a_temperature_is_that_of_the_chances(temperature: float) -> None:
    data, row_of, at = row((0, 1, 1, 0, 1, 0), 0), torch.zeros(3, dtype=torch.long), torch.tensor([1, 3, 5])
    plain = TEACHER(data, row_of, at, WORDS + 1).double()
    powers = plain[:, :WORDS] ** (1 / temperature)
    said = replace(TEACHER, temperature=temperature)(data, row_of, at, WORDS + 1)
    torch.testing.assert_close(said[:, :WORDS].double(), powers / powers.sum(-1, keepdim=True), atol=1e-6, rtol=1e-5)
    assert not said[:, WORDS:].any()


@pytest.mark.parametrize("temperature", (0.0, -1.0, float("nan"), float("inf")))
def test_a_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(SettingError, match="teacher's temperature is"):
        replace(TEACHER, temperature=temperature)


@pytest.mark.parametrize("pattern", [Causal(), BlockCausal()])
def test_a_token_that_sees_what_stands_behind_it_is_not_taught(pattern: Pattern) -> None:
    index = torch.arange(6)[None]
    tags = Tags(index, index // 3, torch.zeros_like(index), torch.ones_like(index))
    masked = torch.tensor([[True, False, True, True, True, False]])
    found = ahead_of_nothing(pattern, tags, masked, index)[0].tolist()
    causal = masked[0].tolist()
    assert found == (causal if isinstance(pattern, Causal) else [False, False, True, False, False, False])


def learnt(data: Batch, system: str = "sdar") -> tuple[int, int]:
    chosen = find(system)
    objective: Any = chosen.parts(chosen.settings.but(block_size=3).read(mask_id=MASK)).objective
    parts = replace(objective, teacher=TEACHER)(STUDENT, data, 0, 0).parts
    return int(parts["learnt"]), int(parts["taught"])


def test_the_first_token_of_a_document_and_what_is_read_out_of_order_are_learnt_as_they_stand() -> None:
    text = (0, 1, 1, 0, 1, 0)
    whole = row(text, 1)
    assert learnt(whole, "tidar")[1] > 0
    single = replace(whole, document=torch.arange(6)[None], index=torch.zeros(1, 6, dtype=torch.long))
    assert learnt(single)[1] == 0 < learnt(single)[0]
    turned = replace(whole, place=torch.tensor([[3, 4, 5, 0, 1, 2]]))
    assert learnt(turned)[1] == 0 < learnt(turned)[0]
    assert learnt(replace(whole, place=whole.index)) == learnt(whole)


def test_a_process_without_masks_has_no_teacher() -> None:
    with pytest.raises(SettingError, match="stands behind masks, and UniformTokens has none"):
        TwoCopyLoss(UniformTokens(4), Blocks(3), teacher=TEACHER)


def test_the_teacher_is_not_learnt() -> None:
    student = network(WORDS + 1, 1).requires_grad_(True)
    before: dict[str, Tensor] = {n: p.clone() for n, p in TEACHER.network.named_parameters()}
    chosen = find("sdar")
    objective: Any = chosen.parts(chosen.settings.but(block_size=3).read(mask_id=MASK)).objective
    replace(objective, teacher=TEACHER)(student, row((0, 1, 1, 0, 1, 0), 1), 0, 0).total.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in student.parameters())
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in TEACHER.network.named_parameters())
