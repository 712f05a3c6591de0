"""What must hold exactly of WeDLM (arXiv:2512.22737)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interlace.arrangements import ObservedFirst, taken
from interlace.attention.kernels import make_mask
from interlace.attention.patterns import Causal, Tags, TwoCopy, dense
from interlace.generation import OPEN, Result, collect, generate
from interlace.layouts import Blocks
from interlace.masking import Counted, Everything
from interlace.memory import ExactKV
from interlace.nn import Transformer, TransformerConfig
from interlace.reveal import NearCertain, Proposal
from interlace.schedules import Streaming
from interlace.systems import Parts, find
from interlace.training.batch import Batch

from .conftest import MASK, SHAPE, VOCABULARY, fill, same_alone_and_in_a_batch, tokens


@cache
def network() -> Transformer:
    """Untied, so that its greedy texts vary."""
    return fill(Transformer(TransformerConfig(vocab_size=VOCABULARY, tied=False, **SHAPE)))


def wedlm(**settings: Any) -> Parts:
    system = find("wedlm")
    return system.parts(system.settings.but(mask_id=MASK, **settings))


def complete(prompt: Any, length: int, parts: Parts, **options: Any) -> Result:
    return collect(generate(network(), [prompt], length, **parts.sampling, **options), [prompt], length)[0]


def causal(content: Tensor, places: Tensor) -> Tensor:
    """Logits of every token under a plain causal mask of the physical order, the mask token never a candidate."""
    n = len(content)
    said = network().head(network()(content[None], places[None], torch.ones(n, n).tril().bool()[None, None]))[0]
    return said.index_fill(1, torch.tensor([MASK]), -torch.inf)


def published(
    prompt: Tensor, length: int, window: int, bound: float, penalty: float, refill: str
) -> tuple[Tensor, Tensor, int, int]:
    """Both decoders without their cache: tokens, log-probabilities, forwards, token instances."""
    total, committed, forwards, instances = len(prompt) + length, 0, 0, 0
    row = torch.cat((prompt, torch.full((length,), MASK)))
    log_prob = torch.zeros(total)
    while (row == MASK).any():
        first = int((row == MASK).nonzero()[0])
        begin = first if refill == "before" else max(committed, len(prompt))
        inside = torch.arange(committed, min(begin + window, total))
        order = torch.cat((inside[row[inside] != MASK], inside[row[inside] == MASK]))
        places = torch.cat((torch.arange(committed), order))
        said = causal(row[places], places).log_softmax(-1)[committed:]
        forwards, instances = forwards + 1, instances + len(order)
        open = order[row[order] == MASK]
        said = said[len(order) - len(open) :]
        entropy = -(said.exp() * said.clamp_min(-1e4)).sum(-1)
        score = entropy + penalty * (open - first)
        fixed = score < bound
        if len(open):
            fixed[score.argmin()] = True
        best = said.max(-1)
        row[open[fixed]], log_prob[open[fixed]] = best.indices[fixed], best.values[fixed]
        committed = first
    return row[len(prompt) :], log_prob[len(prompt) :], forwards, instances


def test_the_defaults_are_the_published_ones() -> None:
    parts = wedlm()
    objective: Any = parts.objective
    assert parts.layout == Blocks(1) and parts.pattern == Causal() and parts.schedule == Streaming(16)
    assert parts.process.reveal == NearCertain(0.4, 0.02)  # type: ignore[attr-defined]
    assert objective.layout == Blocks(32) and objective.masking == Counted() and objective.next_token == 1.0
    assert parts.arrangement == objective.arrangement == ObservedFirst()


def test_the_training_mask() -> None:
    """Four tokens in blocks of 2, the memory stream first."""
    pattern: Any = wedlm().objective.pattern  # type: ignore[attr-defined]
    layout = Blocks(2)
    row = zip(layout.tags(4), layout.tags(4, copy=1), strict=True)
    matrix = dense(pattern, Tags(*(torch.cat(pair) for pair in row))).int().tolist()
    expected = "10000000 11000000 11100000 11110000 00001000 00001100 11000010 11000011"
    assert " ".join("".join(map(str, line)) for line in matrix) == expected


def test_observed_tokens_come_first() -> None:
    """a b c d at places 4 to 7, masked 4 and 6: physically b d M M at 5 7 4 6; a stable order in both groups."""
    open = torch.tensor([[False, False, True, False, True, False, True, False]])
    group = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    order = ObservedFirst()(open, group)
    assert order.tolist() == [[0, 1, 3, 2, 5, 7, 4, 6]]
    assert taken(torch.arange(8)[None], order)[0, 4:].tolist() == [5, 7, 4, 6]


def test_the_masked_copy_is_the_reordered_block_behind_its_clean_past() -> None:
    """The loss, block by block: masked tokens under a causal mask, each at its own place; and the memory stream."""
    parts = wedlm(block_size=4)
    objective: Any = parts.objective
    content = tokens(20).view(2, 10)
    index = torch.arange(10).repeat(2, 1)
    data = Batch(content, torch.zeros_like(content), index, [3, 4])
    level, noise, _ = objective.draw(data, 1, 2)
    noisy = objective.process.corrupt(content, level, noise)
    masked_total = next_total = 0.0
    for r in range(2):
        said = network().head(network()(content[r][None], index[:1], torch.ones(10, 10).tril().bool()[None, None]))[0]
        next_total -= float(said.log_softmax(-1)[:-1].gather(1, content[r, 1:, None]).sum())
        for first in range(0, 10, 4):
            block = torch.arange(first, min(first + 4, 10))
            open = block[noisy[r, block] == MASK]
            order = torch.cat((block[noisy[r, block] != MASK], open))
            places = torch.cat((torch.arange(first), order))
            row = torch.cat((content[r, :first], noisy[r, order]))
            n = len(row)
            said = network().head(network()(row[None], places[None], torch.ones(n, n).tril().bool()[None, None]))[0]
            picked = said.log_softmax(-1)[n - len(open) :].gather(1, content[r, open, None])
            masked_total -= float(picked.sum()) * len(block) / max(1, len(open))
    loss = objective(network(), data, 1, 2)
    assert loss.total.item() == pytest.approx((masked_total + next_total) / 2, rel=1e-4)
    assert loss.parts["next_token"].item() == pytest.approx(next_total, rel=1e-4)
    assert loss.parts["learnt"] == (noisy == MASK).sum() and loss.count == 20


def test_given_tokens_are_observed_and_blocks_without_masks_add_nothing() -> None:
    """n = round(gamma L) of the L tokens of a block that may be masked: those of a prompt are not counted."""
    objective: Any = wedlm(block_size=4).objective
    index = torch.arange(12).repeat(200, 1)
    content = tokens(12).repeat(200, 1)
    data = Batch(content, torch.zeros_like(index), index, list(range(200)), given=index < 6)
    level, noise, _ = objective.draw(data, 0, 0)
    masked = (objective.process.corrupt(content, level, noise) == MASK) & (index >= 6)
    found = set()
    for first, last in ((6, 8), (8, 12)):
        count = masked[:, first:last].sum(1)
        assert torch.equal(count / (last - first), level[:, first])
        found.add((first, *sorted(set(count.tolist()))))
    assert found == {(6, 0, 1, 2), (8, 0, 1, 2, 3, 4)}
    idle = (~masked.any(1)).nonzero()[:, 0].tolist()
    assert idle, "some row must be without a mask"
    rows = Batch(content[idle], data.document[idle], index[idle], idle, given=index[idle] < 6)
    loss = objective(network(), rows, 0, 0)
    assert loss.parts["learnt"] == 0
    assert loss.total.item() == pytest.approx(loss.parts["next_token"].item() / 2, rel=1e-6)


def test_blocks_of_one_are_a_mask_behind_the_memory_stream() -> None:
    """[MASK] at place i that sees the clean tokens before i."""
    objective: Any = replace(wedlm(block_size=1).objective, masking=Everything(), next_token=0.0)  # type: ignore[type-var]
    content, index = tokens(7)[None], torch.arange(7)[None]
    loss = objective(network(), Batch(content, torch.zeros_like(content), index, [0]), 0, 0)
    total = 0.0
    for i in range(7):
        row = torch.cat((content[0, :i], torch.tensor([MASK])))
        seen = torch.ones(i + 1, i + 1).tril().bool()[None, None]
        said = network().head(network()(row[None], index[:, : i + 1], seen))[0, i].log_softmax(-1)
        total -= float(said[content[0, i]])
    assert loss.total.item() == pytest.approx(total, rel=1e-4) and loss.parts["learnt"] == 7


def test_the_memory_stream_is_a_causal_model_and_masks_do_not_touch_it() -> None:
    objective: Any = wedlm(block_size=4).objective
    clean, n = tokens(8), 8
    seen = []
    for noisy in (clean, torch.full((8,), MASK)):
        tags = Tags(*(torch.cat(pair)[None] for pair in zip(Blocks(4).tags(n, copy=1), Blocks(4).tags(n), strict=True)))
        hidden = network()(
            torch.cat((noisy, clean))[None],
            torch.arange(n).repeat(2)[None],
            make_mask(objective.pattern, tags, kernel="dense"),
        )
        seen.append(network().head(hidden)[0, n:])
    assert torch.equal(*seen)
    plain = network().head(network()(clean[None], torch.arange(n)[None], torch.ones(n, n).tril().bool()[None, None]))[0]
    torch.testing.assert_close(seen[0], plain, rtol=0, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.parametrize("refill", ["before", "after"])
@pytest.mark.parametrize("window", [1, 2, 4, 16])
@pytest.mark.parametrize("given", [1, 2, 6])  # masks alone all say the same: a tie
@pytest.mark.parametrize(("bound", "penalty"), [(0.0, 0.0), (1.5, 0.0), (2.0, 0.05), (2.5, 0.02), (100.0, 0.0)])
def test_the_published_decoder(bound: float, penalty: float, given: int, window: int, refill: str) -> None:
    prompt, length = tokens(given, seed=given), 17
    expected, log_prob, forwards, instances = published(prompt, length, window, bound, penalty, refill)
    parts = wedlm(window=window, entropy=bound, penalty=penalty, refill=refill)
    row = complete(prompt, length, parts, details=True)
    assert row.content.tolist() == expected.tolist()
    torch.testing.assert_close(row.log_prob, log_prob, rtol=1e-4, atol=1e-4)
    assert (row.forwards, row.slots) == (forwards, instances)


@pytest.mark.parametrize("window", [2, 4, 8])
@pytest.mark.parametrize(("bound", "penalty"), [(1.5, 0.0), (2.5, 0.02), (100.0, 0.0)])
def test_the_engine_opens_masks_behind_the_end(bound: float, penalty: float, window: int) -> None:
    """Its window is never narrower at the end of a text; what it then cuts off is a longer row here."""
    for given in (1, 5):
        prompt, length = tokens(given, seed=given), 17
        row, first = torch.cat((prompt, torch.full((length + 4 * window,), MASK))), given
        while first < given + length:
            inside = torch.arange(first, first + window)
            behind = (row[first:] != MASK).nonzero().flatten() + first
            order = torch.cat((behind, inside[row[inside] == MASK]))
            places = torch.cat((torch.arange(first), order))
            said = causal(row[places], places)[first + len(behind) :].log_softmax(-1)
            open = order[len(behind) :]
            score = -(said.exp() * said.clamp_min(-1e4)).sum(-1) + penalty * (open - open[0])
            fixed = score < bound
            fixed[score.argmin()] = True
            row[open[fixed]] = said.argmax(-1)[fixed]
            first = int((row == MASK).nonzero()[0])
        parts = wedlm(window=window, entropy=bound, penalty=penalty)
        longer = complete(prompt, length + 2 * window, parts).content[:length]
        assert longer.tolist() == row[given : given + length].tolist()


class Scripted(nn.Module):
    """Entropy 0.1 everywhere, but 0.9 at some places until their left neighbour is known; remembers what it is fed."""

    def __init__(self, hard: set[int]) -> None:
        super().__init__()
        self.config = TransformerConfig(vocab_size=VOCABULARY, **SHAPE)
        self.weight = nn.Parameter(torch.zeros(1))
        self.hard, self.fed = hard, []  # type: ignore[var-annotated]

    def forward(self, content: Tensor, positions: Tensor, mask: Tensor, memory: Any, slots: Tensor) -> Tensor:
        places, known = positions[0].tolist(), (content[0] != MASK).tolist()
        self.fed.append(places)
        filled = dict(zip(places, known, strict=True))
        nats = [0.9 if p in self.hard and not filled.get(p - 1, True) else 0.1 for p in places]
        return torch.tensor(nats)[None, :, None]

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of that entropy: one likely token, and all others alike."""
        logits = torch.zeros(len(hidden), VOCABULARY)
        for row, nats in zip(logits, hidden[:, 0].tolist(), strict=True):
            low, high = 0.0, 60.0
            for _ in range(60):
                row[3] = (low + high) / 2
                p = torch.cat((row[:MASK], row[MASK + 1 :])).log_softmax(-1)
                low, high = (low, float(row[3])) if float(-(p.exp() * p).sum()) < nats else (float(row[3]), high)
        return logits


def fed(hard: set[int], length: int, refill: str) -> list[list[int]]:
    """What each forward of a window of 4 with bound 0.5 is given, and what a last one would only have to commit."""
    scripted, parts = Scripted(hard), wedlm(window=4, entropy=0.5, penalty=0.0, refill=refill)
    events = list(generate(scripted, [[]], length, **parts.sampling))  # type: ignore[arg-type]
    assert (events[-1].forwards, events[-1].slots) == (len(scripted.fed), sum(map(len, scripted.fed)))
    final = [event.unit for event in events if event.forwards == events[-1].forwards]
    return [*scripted.fed, list(range(min(final), length))]


def test_the_tables_of_a_window() -> None:
    """Eight tokens, in physical order; the last forward, which only commits the last token, is not fed here."""
    engine, paper = fed({1, 5, 7}, 8, "before"), fed({1, 5, 7}, 8, "after")
    assert engine == [[0, 1, 2, 3], [0, 2, 3, 1, 4], [1, 2, 3, 4, 5, 6, 7], [5, 6, 7], [7]]
    assert paper == [[0, 1, 2, 3], [0, 2, 3, 1], [1, 2, 3, 4], [4, 5, 6, 7], [5, 6, 7], [7]]
    assert 8 / sum(map(len, engine)) == 8 / sum(map(len, paper)) == 0.4  # p_cache


def test_a_sure_model_fills_a_window_per_forward_or_per_second_one() -> None:
    """Refilled before, a forward is given the window filled last and the next one; after, each is committed alone."""
    engine, paper = fed(set(), 16, "before"), fed(set(), 16, "after")
    assert [len(places) for places in engine] == [4, 8, 8, 8, 4] and [len(places) for places in paper] == [4] * 8
    assert 16 / sum(map(len, engine)) == 16 / sum(map(len, paper)) == 0.5  # p_cache


def test_a_large_penalty_goes_from_left_to_right() -> None:
    parts = wedlm(window=4, entropy=0.5, penalty=1e6)
    events = list(generate(network(), [tokens(3)], 9, **parts.sampling))
    assert [event.unit for event in events] == list(range(3, 12)) and events[-1].forwards == 9


def test_choice_by_entropy_and_distance() -> None:
    rule, quota = NearCertain(0.4, 0.02), torch.tensor([1])
    open = torch.tensor([[False, True, True, False, True]])
    for entropy, expected in (([0, 0.30, 0.35, 0, 0.39], [1, 2]), ([0, 0.9, 0.8, 0, 0.9], [2])):
        drawn: Any = SimpleNamespace(entropy=torch.tensor([entropy])[open])
        chosen = rule(Proposal(open, drawn, quota, 0 * quota, of=1))
        assert chosen[0].nonzero().flatten().tolist() == expected


def test_the_cache_is_that_of_a_fresh_causal_prefill(memories: list[ExactKV]) -> None:
    """After every commit, whatever was filled out of order."""
    prompt = tokens(5)
    row = torch.cat((prompt, complete(prompt, 15, wedlm(window=5, entropy=2.3)).content))
    memories.clear()
    seen = set()
    for _ in generate(network(), [prompt], 15, **wedlm(window=5, entropy=2.3).sampling):
        length = memories[0].lengths[0]
        if length in seen:
            continue
        seen.add(length)
        fresh = ExactKV(2, 1, 2, 8, 20)
        fresh.open([length])
        mask = torch.ones(length, length).tril().bool()[None, None]
        network()(row[None, :length], torch.arange(length)[None], mask, fresh, torch.arange(length)[None])
        kept, expected = (memory.storage[:, :, 0, :, :length] for memory in (memories[0], fresh))
        torch.testing.assert_close(kept, expected, rtol=0, atol=1e-5)
    assert len(seen) > 3


@pytest.mark.parametrize("refill", ["before", "after"])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_row_in_a_batch_is_the_row_alone(temperature: float, refill: str) -> None:
    parts = wedlm(window=4, entropy=2.3, temperature=temperature, refill=refill)
    same_alone_and_in_a_batch(network(), parts, [0, 1, 6, 11], [9, 16, 2, 20], stop=(4,))


@pytest.mark.parametrize("entropy", [2.3, 100.0])
@pytest.mark.parametrize("refill", ["before", "after"])
def test_with_and_without_memory_and_fusion(refill: str, entropy: float) -> None:
    parts = wedlm(window=4, entropy=entropy, refill=refill)
    rows = [complete(tokens(6), 14, parts, **options) for options in ({}, {"fuse": False})]
    events = generate(network(), [tokens(6)], 14, **parts.sampling | {"memory": "none"})
    rows.append(collect(events, [tokens(6)], 14)[0])
    assert len({tuple(row.content.tolist()) for row in rows}) == 1


def test_a_gap_whose_end_is_far_behind_the_window() -> None:
    """The known tokens behind it are more than a window holds: nothing is committed that was not fed."""
    row = [*tokens(4).tolist(), OPEN, OPEN, *tokens(9, seed=3).tolist(), OPEN, OPEN, OPEN]
    found = []
    for memory in ("exact", "none"):
        parts = wedlm(window=3, entropy=100.0, refill="after").sampling | {"memory": memory}
        events = generate(network(), [row], 4, **parts, details=True)
        found.append(collect(events, [row], 4, starts=[4])[0])
    assert found[0].content.tolist() == found[1].content.tolist()
    assert found[0].log_prob is not None and found[1].log_prob is not None
    torch.testing.assert_close(found[0].log_prob, found[1].log_prob, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("refill", ["before", "after"])
def test_infilling_sees_what_lies_behind_within_the_window(refill: str) -> None:
    """Known tokens behind a gap stand in front of it, so another suffix gives another filling."""
    parts = wedlm(window=8, entropy=0.0, refill=refill)
    before, after = tokens(4).tolist(), tokens(4, seed=9).tolist()
    rows = [
        collect(generate(network(), [row], 0, **parts.sampling, details=True), [row], 0, starts=[4])[0]
        for row in ([*before, OPEN, OPEN, OPEN, *end] for end in (after, after[::-1]))
    ]
    assert [row.content.tolist()[3:] for row in rows] == [after, after[::-1]]
    assert rows[0].log_prob is not None and rows[1].log_prob is not None
    assert (rows[0].log_prob[:3] - rows[1].log_prob[:3]).abs().max() > 1e-3


def test_temperature_acts_on_what_the_cuts_leave() -> None:
    """Entropy and cuts are those of the raw logits."""
    sampler: Any = wedlm(temperature=0.5, top_k=2).process.sampler  # type: ignore[attr-defined]
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    p = logits.softmax(-1)[0]
    drawn = sampler(logits, torch.tensor([0.0]))
    assert drawn.entropy.item() == pytest.approx(float(-(p * p.log()).sum()), rel=1e-5)
    share = float(p[0] ** 2 / (p[0] ** 2 + p[1] ** 2))
    for uniform, token in ((share - 0.01, 0), (share + 0.01, 1), (0.9999, 1)):
        assert sampler(logits, torch.tensor([uniform])).token.item() == token


def test_patterns_of_the_objective() -> None:
    objective: Any = wedlm().objective
    assert objective.pattern == TwoCopy(Causal(), Causal())
