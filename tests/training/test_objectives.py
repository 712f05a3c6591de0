"""Objectives against plain sums: unit by unit, without packing, without copies; and what their noise depends on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.arrangements import ObservedFirst
from interlace.attention.patterns import Bidirectional, TwoCopy
from interlace.attention.positions import Rope
from interlace.errors import SettingError
from interlace.layouts import Blocks, Frames
from interlace.masking import Counted
from interlace.nn import Transformer, TransformerConfig
from interlace.processes import AbsorbingMask, FlowMatching, Gaussian
from interlace.training.batch import Batch
from interlace.training.objectives import NextTokenLoss, OneCopyLoss, TwoCopyLoss

VOCABULARY, MASK, FEATURES, CLASSES = 20, 19, 3, 2
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 40, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8,
    "max_positions": 64,
}  # fmt: skip


def fill(network: Transformer) -> Transformer:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3, generator=generator)
    return network.eval().requires_grad_(False)


TEXT = fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, **SHAPE)))
LEVELS: dict[str, Any] = {"levels": True, "classes": CLASSES, "rope": Rope((10.0,) * 3, split=(2, 1, 1))}
VIDEO = fill(Transformer(TransformerConfig(features=FEATURES, **SHAPE, **LEVELS)))


def batch(*rows: list[int], content: Tensor | None = None, numbers: list[int] | None = None, seed: int = 0) -> Batch:
    """Rows of documents of these lengths; a negative length is padding."""
    document = torch.tensor([[d for d, n in enumerate(row) for _ in range(abs(n))] for row in rows])
    padding = torch.tensor([[n < 0 for n in row for _ in range(abs(n))] for row in rows])
    index = torch.tensor([[i for n in row for i in range(abs(n))] for row in rows])
    if content is None:
        content = torch.randint(0, MASK, document.shape, generator=torch.Generator().manual_seed(seed))
    return Batch(content, document.masked_fill(padding, -1), index, numbers or list(range(len(rows))))


def features(rows: int, n: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, n, FEATURES, generator=torch.Generator().manual_seed(seed))


def documents(data: Batch) -> list[tuple[int, Tensor]]:
    """(row, places of one document in it), padding left out."""
    return [
        (r, (row == d).nonzero().flatten())
        for r, row in enumerate(data.document)
        for d in sorted(set(row.tolist()) - {-1})
    ]


def two_copies_by_hand(network: Transformer, objective: TwoCopyLoss, data: Batch, seed: int, step: int) -> float:
    """Every unit alone: its clean past and its noisy tokens in one row, the block-causal mask made by loops."""
    process, layout, total = objective.process, objective.layout, 0.0
    level, noise, coin = objective.draw(data, seed, step)
    noisy = process.corrupt(data.content, level, noise)
    place = data.index if data.place is None else data.place
    for r, at in documents(data):
        for first in range(0, len(at), layout.size):
            seen, unit = at[: first + layout.size], at[first : first + layout.size]
            row = torch.cat((data.content[r, at[:first]], noisy[r, unit].to(data.content.dtype)))
            n, size = len(row), layout.size
            mask = torch.tensor([[j // size <= i // size for j in range(n)] for i in range(n)])
            told: dict[str, Tensor] = {}
            if process.conditioned:
                told["level"] = torch.cat((torch.zeros(first), level[r, unit]))[None]
            if data.label is not None:
                label = CLASSES if coin[r] < objective.drop_label else int(data.label[r])
                told["label"] = torch.full((1, n), label)
            hidden = network(row[None], layout.positions(place[r, seen])[None], mask[None, None], **told)
            for i, p, prediction in zip(range(first, n), unit.tolist(), network.head(hidden)[0, first:], strict=True):
                t = float(level[r, p])
                if not process.conditioned:
                    target = int(data.content[r, p])
                    if row[i] == MASK and target != MASK:
                        total += float(prediction.logsumexp(-1) - prediction[target]) / (0.999 * t + 0.001)
                else:
                    target = noise[r, p] - data.content[r, p] if isinstance(process, FlowMatching) else noise[r, p]
                    total += float((prediction - target).square().mean())
    return total


PACKED = [[7, 5], [12], [3, 4, 5]]
PADDED = [[7, -5], [4, 8], [2, 3, -7]]


@pytest.mark.parametrize("rows", [PACKED, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("levels", ["document", "unit"])
@pytest.mark.parametrize("size", [1, 4, 8])
def test_masked_two_copies_are_the_sum_over_units(rows: Any, size: int, levels: str) -> None:
    objective = TwoCopyLoss(AbsorbingMask(MASK), Blocks(size), levels=levels)
    data = batch(*rows)
    loss = objective(TEXT, data, 5, 3)
    assert loss.total.item() == pytest.approx(two_copies_by_hand(TEXT, objective, data, 5, 3), rel=1e-4)
    assert loss.count == (data.document >= 0).sum()
    assert 0 < loss.parts["learnt"] < loss.count


@pytest.mark.parametrize("process", [FlowMatching(), Gaussian()], ids=repr)
@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_continuous_two_copies_are_the_sum_over_units(process: Any, drop: float) -> None:
    layout = Frames(6, 1, 2, frames_per_unit=2)
    objective = TwoCopyLoss(process, layout, levels="unit", drop_label=drop)
    data = replace(batch([12], [8, -4], [12], content=features(3, 12)), label=torch.tensor([0, 1, 0]))
    loss = objective(VIDEO, data, 2, 0)
    assert loss.total.item() == pytest.approx(two_copies_by_hand(VIDEO, objective, data, 2, 0), rel=1e-4)
    assert loss.count == loss.parts["learnt"] == 32


def predicted(network: Transformer, row: list[int], size: int) -> Tensor:
    """Logits at every token of a row under the block-causal mask, made by loops."""
    n = len(row)
    mask = torch.tensor([[j // size <= i // size for j in range(n)] for i in range(n)])
    return network.head(network(torch.tensor([row]), torch.arange(n)[None], mask[None, None]))[0]


@pytest.mark.parametrize("rows", [PACKED, PADDED], ids=["packed", "padded"])
@pytest.mark.parametrize("complementary", [False, True])
def test_a_shifted_prediction_is_read_at_the_noisy_token_before(rows: Any, complementary: bool) -> None:
    """Token i of a document: from the clean units before that of i - 1, and the noisy unit of i - 1."""
    size, process = 4, AbsorbingMask(MASK, shift=1, weighted=False)
    objective = TwoCopyLoss(process, Blocks(size), levels="unit", views="complementary" if complementary else "one")
    data = batch(*rows)
    level, noise, _ = objective.draw(data, 5, 3)
    first = process.corrupt(data.content, level, noise)
    views = [first, data.content.masked_fill(first != MASK, MASK)] if complementary else [first]
    total, learnt = 0.0, 0
    for r, at in documents(data):
        for view in views:
            for i in range(1, len(at)):
                if view[r, at[i]] != MASK:
                    continue
                begin = (i - 1) // size * size
                row = [*data.content[r, at[:begin]].tolist(), *view[r, at[begin : begin + size]].tolist()]
                logits = predicted(TEXT, row, size)[i - 1]
                total += float(logits.logsumexp(-1) - logits[data.content[r, at[i]]])
                learnt += 1
    loss = objective(TEXT, data, 5, 3)
    assert loss.total.item() == pytest.approx(total, rel=1e-4) and loss.parts["learnt"] == learnt
    if complementary:
        assert learnt == sum(len(at) - 1 for _, at in documents(data)), "every token but the first, once"


def test_complementary_copies_do_not_see_each_other() -> None:
    """The sum of both views is that of two rows, each with one view."""
    process = AbsorbingMask(MASK, weighted=False)
    objective = TwoCopyLoss(process, Blocks(4), views="complementary")
    data = batch(*PADDED)
    level, noise, coin = objective.draw(data, 1, 2)
    one = process.corrupt(data.content, level, noise)
    two = process.complement(one, data.content)
    assert (two == MASK).eq(one != MASK).all()
    alone = []
    for view in (one, two):
        single = TwoCopyLoss(process, Blocks(4))
        drawn = (level, torch.where(view == MASK, -1.0, 2.0), coin)
        object.__setattr__(single, "draw", lambda *_, drawn=drawn: drawn)
        alone.append(single(TEXT, data, 1, 2))
    both = objective(TEXT, data, 1, 2)
    torch.testing.assert_close(both.total, alone[0].total + alone[1].total, rtol=1e-4, atol=1e-3)
    assert both.parts["learnt"] == both.count == alone[0].parts["learnt"] + alone[1].parts["learnt"]


def test_independent_views_are_two_draws() -> None:
    process = AbsorbingMask(MASK)
    data = batch(*PADDED)
    parts = [TwoCopyLoss(process, Blocks(4))(TEXT, data, seed, 2) for seed in (1, 1 + (1 << 40))]
    both = TwoCopyLoss(process, Blocks(4), views="independent")(TEXT, data, 1, 2)
    torch.testing.assert_close(both.total, parts[0].total + parts[1].total, rtol=1e-4, atol=1e-3)
    assert both.parts["learnt"] == sum(part.parts["learnt"] for part in parts)
    assert not torch.isclose(parts[0].total, parts[1].total)


def test_counted_masks_weigh_every_masked_token_by_what_it_stands_for() -> None:
    """k of the L tokens of a unit, each with the weight L / k."""
    process = AbsorbingMask(MASK, eps=0.0)
    objective = TwoCopyLoss(process, Blocks(4), levels="unit", masking=Counted(0.4))
    data = batch(*PADDED)
    level, noise, _ = objective.draw(data, 5, 3)
    noisy, total = process.corrupt(data.content, level, noise), 0.0
    for r, at in documents(data):
        for begin in range(0, len(at), 4):
            unit = noisy[r, at[begin : begin + 4]]
            logits = predicted(TEXT, [*data.content[r, at[:begin]].tolist(), *unit.tolist()], 4)[begin:]
            open = (unit == MASK).nonzero().flatten().tolist()
            for i in open:
                loss = logits[i].logsumexp(-1) - logits[i, data.content[r, at[begin + i]]]
                total += float(loss) * len(unit) / len(open)
    assert objective(TEXT, data, 5, 3).total.item() == pytest.approx(total, rel=1e-4)


def test_one_copy_under_bidirectional_attention_is_plain_masked_diffusion() -> None:
    objective = OneCopyLoss(AbsorbingMask(MASK), Blocks(4), Bidirectional(), levels="document")
    data, total = batch(*PACKED), 0.0
    level, noise, _ = objective.draw(data, 5, 3)
    noisy = objective.process.corrupt(data.content, level, noise)
    for r, at in documents(data):
        logits = predicted(TEXT, noisy[r, at].tolist(), len(at))
        for i, p in enumerate(at.tolist()):
            if noisy[r, p] == MASK:
                loss = logits[i].logsumexp(-1) - logits[i, data.content[r, p]]
                total += float(loss) / (0.999 * float(level[r, p]) + 0.001)
    assert objective(TEXT, data, 5, 3).total.item() == pytest.approx(total, rel=1e-4)


def test_tokens_keep_their_true_places() -> None:
    objective = TwoCopyLoss(AbsorbingMask(MASK), Blocks(4))
    data = replace(batch([12]), place=torch.tensor([[8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]]))
    total = objective(TEXT, data, 5, 3).total.item()
    assert total == pytest.approx(two_copies_by_hand(TEXT, objective, data, 5, 3), rel=1e-4)
    assert total != pytest.approx(objective(TEXT, replace(data, place=None), 5, 3).total.item(), rel=1e-3)


def next_tokens_by_hand(data: Batch) -> tuple[float, int]:
    total, count = 0.0, 0
    for r, at in documents(data):
        ids = data.content[r, at]
        place = data.index if data.place is None else data.place
        n = len(ids)
        mask = torch.tensor([[j <= i for j in range(n)] for i in range(n)])
        logits = TEXT.head(TEXT(ids[None], place[r, at][None], mask[None, None]))[0]
        for i in range(n - 1):
            total += float(logits[i].logsumexp(-1) - logits[i, ids[i + 1]])
            count += 1
    return total, count


@pytest.mark.parametrize("rows", [PACKED, PADDED, [[1, 1, 10]]], ids=["packed", "padded", "single"])
def test_next_token_is_the_cross_entropy_of_every_document(rows: Any) -> None:
    """Nothing is predicted across a border: the first token of a document has no one before it."""
    data = batch(*rows)
    loss = NextTokenLoss()(TEXT, data, 0, 0)
    total, count = next_tokens_by_hand(data)
    assert loss.total.item() == pytest.approx(total, rel=1e-4)
    assert loss.count == count


def test_next_token_reads_in_the_order_of_reading_at_the_true_places() -> None:
    data = replace(batch([8]), place=torch.tensor([[4, 5, 6, 7, 0, 1, 2, 3]]))
    assert NextTokenLoss()(TEXT, data, 0, 0).total.item() == pytest.approx(next_tokens_by_hand(data)[0], rel=1e-4)


OBJECTIVES: list[Any] = [
    NextTokenLoss(),
    TwoCopyLoss(AbsorbingMask(MASK), Blocks(4)),
    TwoCopyLoss(AbsorbingMask(MASK), Blocks(2), levels="unit"),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["next", "document", "unit"])
def test_documents_do_not_leak(objective: Any) -> None:
    """A row of two documents has the losses of the two, each with the other one turned into padding."""
    both = batch([6, 6])
    first = replace(both, document=both.document.masked_fill(both.document == 1, -1))
    second = replace(both, document=both.document.masked_fill(both.document == 0, -1))
    totals = [objective(TEXT, data, 3, 1) for data in (both, first, second)]
    torch.testing.assert_close(totals[0].total, totals[1].total + totals[2].total, rtol=1e-5, atol=1e-4)
    assert totals[0].count == totals[1].count + totals[2].count
    assert totals[1].total > 0 and totals[2].total > 0


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["next", "document", "unit"])
def test_padding_carries_no_loss(objective: Any) -> None:
    data = batch([7, -5], seed=1)
    other = data.content.clone()
    other[:, 7:] = (other[:, 7:] + 1) % MASK
    one, two = objective(TEXT, data, 1, 1), objective(TEXT, replace(data, content=other), 1, 1)
    assert torch.equal(one.total, two.total) and one.count == two.count
    nothing = objective(TEXT, batch([-12]), 1, 1)
    assert nothing.total == 0 and nothing.count == 0


def test_filling_at_the_end_of_a_document_is_learnt() -> None:
    """Padding of a document to whole blocks belongs to it (document >= 0), and so carries loss."""
    objective = TwoCopyLoss(AbsorbingMask(MASK), Blocks(4))
    content = torch.tensor([[1, 2, 3, 4, 5, 0, 0, 0]])
    data = batch([8], content=content)
    level, noise, _ = objective.draw(data, 0, 0)
    noisy = objective.process.corrupt(content, level, noise)
    masked = (noisy == MASK).sum()
    assert masked > (noisy[:, :5] == MASK).sum(), "the draw must mask some of the filling"
    loss = objective(TEXT, data, 0, 0)
    assert loss.parts["learnt"] == masked and loss.count == 8


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["next", "document", "unit"])
def test_the_noise_of_a_row_goes_by_its_number(objective: Any) -> None:
    """A batch, the same rows in two batches, and in another order: the same total."""
    whole = batch(*PACKED, [6, 6], numbers=[10, 11, 12, 13])

    def part(*rows: int) -> Batch:
        at = list(rows)
        return Batch(whole.content[at], whole.document[at], whole.index[at], [whole.row[r] for r in at])

    total = objective(TEXT, whole, 4, 2).total
    for split in ((part(0, 1), part(2, 3)), (part(3, 1), part(0, 2))):
        torch.testing.assert_close(sum(objective(TEXT, p, 4, 2).total for p in split), total, rtol=1e-5, atol=1e-4)
    if not isinstance(objective, NextTokenLoss):
        for other in (objective(TEXT, whole, 5, 2), objective(TEXT, whole, 4, 3)):
            assert not torch.isclose(other.total, total)
        moved = replace(whole, row=[13, 12, 11, 10])
        assert not torch.isclose(objective(TEXT, moved, 4, 2).total, total)


@pytest.mark.parametrize("levels", ["document", "unit"])
def test_levels_belong_to_a_document_or_to_a_unit(levels: str) -> None:
    objective = TwoCopyLoss(AbsorbingMask(MASK), Blocks(4), levels=levels)
    data = batch(*PACKED)
    level = objective.draw(data, 0, 0)[0]
    groups = [
        level[r, at[i : i + 4]] if levels == "unit" else level[r, at]
        for r, at in documents(data)
        for i in range(0, len(at) if levels == "unit" else 1, 4)
    ]
    assert all(len(set(group.tolist())) == 1 for group in groups)
    assert len({float(group[0]) for group in groups}) == len(groups) == {"document": 6, "unit": 11}[levels]


@pytest.mark.parametrize("levels", ["document", "unit"])
def test_levels_are_uniform_and_independent_of_the_noise(levels: str) -> None:
    objective = TwoCopyLoss(AbsorbingMask(MASK), Blocks(4), levels=levels)
    data = batch(*[[4]] * 2000, numbers=list(range(2000)))
    level, noise, coin = objective.draw(data, 0, 0)
    drawn = torch.stack((level[:, 0], noise[:, 0], noise[:, 1], coin))
    for row in drawn:
        assert 0 <= row.min() and row.max() < 1
        assert row.mean().item() == pytest.approx(0.5, abs=0.03)
        assert row.var().item() == pytest.approx(1 / 12, abs=0.006)
    assert (torch.corrcoef(drawn) - torch.eye(4)).abs().max() < 0.08


def test_the_expected_loss_of_single_tokens_is_an_autoregressive_chain() -> None:
    """Blocks of one: sum_i mask_i / p_i * CE_i, where CE_i is asked by a mask at i from the clean x_<i alone."""
    objective = TwoCopyLoss(AbsorbingMask(MASK), Blocks(1), levels="unit")
    data = batch([6])
    cross_entropy = []
    for i in range(6):
        row = torch.cat((data.content[0, :i], torch.tensor([MASK])))
        mask = torch.ones(i + 1, i + 1).tril().bool()
        logits = TEXT.head(TEXT(row[None], torch.arange(i + 1)[None], mask[None, None]))[0, -1]
        cross_entropy.append(float(logits.logsumexp(-1) - logits[data.content[0, i]]))
    for step in range(4):
        level, noise, _ = objective.draw(data, 0, step)
        p = 0.999 * level[0] + 0.001
        expected = sum(c / float(q) for c, q, u in zip(cross_entropy, p, noise[0], strict=True) if u < q)
        assert objective(TEXT, data, 0, step).total.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert not math.isclose(cross_entropy[0], cross_entropy[1])


def test_a_dropped_label_is_the_null_label() -> None:
    data = replace(batch([12], [12], content=features(2, 12)), label=torch.tensor([0, 1]))
    layout = Frames(6, 1, 2, frames_per_unit=2)
    parts: dict[str, Any] = {"process": FlowMatching(), "layout": layout, "pattern": TwoCopy(), "levels": "unit"}
    dropped = TwoCopyLoss(**parts, drop_label=1.0)(VIDEO, data, 0, 0).total
    null = TwoCopyLoss(**parts)(VIDEO, replace(data, label=torch.full((2,), CLASSES)), 0, 0).total
    kept = TwoCopyLoss(**parts)(VIDEO, data, 0, 0).total
    assert torch.equal(dropped, null) and not torch.isclose(dropped, kept)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="unknown levels 'row'; pass document or unit"):
        TwoCopyLoss(AbsorbingMask(MASK), Blocks(4), levels="row")
    with pytest.raises(SettingError, match="unknown views 'both'; pass one, complementary or independent"):
        TwoCopyLoss(AbsorbingMask(MASK), Blocks(4), views="both")
    with pytest.raises(SettingError, match="the token before one is not at the place before it in an arrangement"):
        TwoCopyLoss(AbsorbingMask(MASK, shift=1), Blocks(4), arrangement=ObservedFirst())
    with pytest.raises(SettingError, match="the next-token loss is that of the clean copy, and there is none"):
        OneCopyLoss(AbsorbingMask(MASK), Blocks(4), next_token=1.0)
    with pytest.raises(SettingError, match="complementary views count every token once; use a masked process"):
        TwoCopyLoss(AbsorbingMask(MASK), Blocks(4), views="complementary")
    with pytest.raises(SettingError, match="complementary views"):
        TwoCopyLoss(FlowMatching(), Blocks(4), views="complementary")
