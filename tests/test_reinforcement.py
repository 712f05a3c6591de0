"""Reinforcement from end to end on tiny networks: rollouts are read off the one loop, and learnt from in the other."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interlace.checkpoints import Checkpoint, save
from interlace.errors import SettingError
from interlace.generation import generate
from interlace.lora import Lora, LoraSettings
from interlace.model import Model, load, naming
from interlace.nn import Transformer, TransformerConfig
from interlace.reinforcement import ReinforceSettings, Rollouts, judge, reinforce
from interlace.systems import find
from interlace.training.settings import TrainSettings
from interlace.worlds.puzzle import Problem, Puzzle, puzzle
from interlace.worlds.tokenizer import END_ID, MASK_ID

LENGTH = 8


def model(system: str = "eoser-ass-cjgrpo", seed: int = 0, layers: int = 1, **changes: Any) -> Model:
    tokenizer = puzzle("countdown").tokenizer()
    config = TransformerConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=24, num_layers=layers, num_heads=2,
        num_kv_heads=2, head_dim=8, max_positions=64, tied=False, qk_norm=False,
    )  # fmt: skip
    network = Transformer(config).initialise(torch.Generator().manual_seed(seed), std=0.3)
    checkpoint = Checkpoint(network, tokenizer, "llada", stop_token_ids=(END_ID,), mask_token_id=MASK_ID)
    chosen = find(system)
    settings = chosen.settings.read(mask_id=MASK_ID, eos_ids=(END_ID,))
    return Model(checkpoint, chosen, settings.but(**{"block_size": LENGTH} | changes))


class Odd(Puzzle):
    """Prompts of different lengths; an answer is worth its share of digits 7."""

    name = "odd"
    alphabet = "0123456789+-*/()=,:\n"
    length = LENGTH

    def problem(self, index: int, split: Any = "train", seed: int = 0) -> Problem:
        return Problem("1" * (1 + (index + seed) % 3) + "=", "7")

    def reward(self, prompt: str, completion: str) -> float:
        return completion.count("7") / LENGTH


def rollouts(made: Model, **changes: Any) -> Rollouts:
    return Rollouts(made, Odd(), ReinforceSettings(**{"num_prompts": 2, "num_generations": 3, "beta": 0.0} | changes))


def every(source: Rollouts, update: int = 0) -> range:
    each = source.states * source.answers
    return range(update * each, (update + 1) * each)


SYSTEMS: list[tuple[str, dict[str, Any], int]] = [
    ("eoser-ass-cjgrpo", {}, 3),
    ("eoser-ass-cjgrpo", {"blocks": 2}, 3),
    ("eoser-ass-cjgrpo", {"ass": False, "steps": 4}, 4),
    ("llada", {"block_size": 4, "steps": 2}, 4),
    ("dream", {"steps": 4}, 4),
    ("sdar", {"block_size": 4, "steps": 2, "threshold": 1.0}, 6),
    ("efficient-dlm", {"block_size": 4, "steps": 2, "threshold": 1.0}, 6),
]


@pytest.mark.parametrize(("system", "changes", "steps"), SYSTEMS)
def test_states_are_those_that_the_network_was_shown(system: str, changes: Any, steps: int, monkeypatch: Any) -> None:
    """X_s from the finished row and the order of reveal, against what generation really fed."""
    made = model(system, **changes)
    source = rollouts(made, max_completion_length=LENGTH)
    assert source.steps == steps
    fed: list[Tensor] = []
    made.network.register_forward_pre_hook(lambda module, given: fed.append(given[0].clone()))
    monkeypatch.setattr("interlace.generation.walk.accelerated", lambda network: network)
    source.checked = True
    source.batch(every(source))
    shown = torch.stack([states.content for states in source.kept])  # [steps, rows, n]
    first = source.kept[0]
    scored = torch.stack([states.scored for states in source.kept])
    answer = (first.document >= 0) & (scored.any(0))
    assert (scored.sum(0) <= 1).all() and answer.sum() == scored.sum()
    assert (first.target[answer] != MASK_ID).all()
    if made.parts.memory == "none":  # the whole row is fed at every forward, all rows together
        assert len(fed) == steps
        for state, content in zip(shown, fed, strict=True):
            for r in range(source.answers):
                there = first.document[r] >= 0
                assert state[r][there].tolist() == content[r][: int(there.sum())].tolist()


@pytest.mark.parametrize(("system", "changes", "steps"), SYSTEMS)
def test_the_recorded_probabilities_are_those_of_the_states(system: str, changes: Any, steps: int) -> None:
    """The chain rule over the trajectory gives what generation said that it had sampled with."""
    made = model(system, **changes)
    source = rollouts(made, max_completion_length=LENGTH)
    kept: dict[str, Tensor] = {}
    check = source._check
    source._check = lambda found, recorded: (kept.update(recorded=recorded), check(found, recorded))  # type: ignore[method-assign,func-returns-value]
    source.batch(every(source))
    again = sum(source._score(made.network, states) for states in source.kept)
    assert isinstance(again, Tensor) and kept["recorded"].abs().max() > 0.1
    assert torch.allclose(again, kept["recorded"], atol=1e-4)


def test_quotas_of_the_steps() -> None:
    source = rollouts(model())
    source.batch(every(source))
    assert [s.scored.sum(1).tolist() for s in source.kept] == [[1] * 6, [2] * 6, [5] * 6]


def test_every_answer_has_its_own_seed_and_the_same_seeds_the_same_answers() -> None:
    one, other, third = rollouts(model()), rollouts(model()), rollouts(model())
    third.seed = 1
    first, again, else_ = (source.batch(every(source)) for source in (one, other, third))
    assert torch.equal(first.target, again.target) and not torch.equal(first.target, else_.target)
    assert len({tuple(row) for row in first.target[:3].tolist()}) == 3
    two = one.batch(every(one, 1))
    assert not torch.equal(first.target[0], two.target[0])
    assert torch.equal(two.target, rollouts(model()).batch(every(one, 1)).target)


def test_rows_come_in_any_pieces() -> None:
    source = rollouts(model())
    whole = source.batch(every(source))
    pieces = [source.batch(every(source)[i : i + 2]) for i in range(0, 18, 2)]
    assert torch.equal(whole.content, torch.cat([piece.content for piece in pieces]))
    assert torch.equal(whole.scored, torch.cat([piece.scored for piece in pieces]))
    assert whole.row == [number for piece in pieces for number in piece.row]


@pytest.mark.parametrize("method", ["cj-grpo", "one-step", "diffu-grpo"])
def test_filler(method: str) -> None:
    """Behind the first end token nothing is scored unless it is asked for; the end token itself is."""
    made = model()
    with torch.no_grad():
        made.network.output.weight[END_ID] += made.network.output.weight.mean(0) + 0.2
    sources = [rollouts(made, method=method, score_filler=filler) for filler in (True, False, None)]
    sums = []
    for source in sources:
        source.batch(every(source))
        sums.append(torch.stack([s.scored for s in source.kept]).sum(0))
    target, answer = sources[0].kept[0].target, sums[0] > 0
    assert (sums[0].sum(1) == LENGTH).all()
    ends = (target == END_ID) & answer
    assert ends.any()
    for r in range(len(target)):
        places = answer[r].nonzero().flatten().tolist()
        last = next((p for p in places if ends[r, p]), places[-1])
        assert sums[1][r].nonzero().flatten().tolist() == [p for p in places if p <= last]
    assert torch.equal(sums[2], sums[0] if method == "cj-grpo" else sums[1])


def test_an_answer_counts_once_however_many_of_its_states_are_scored() -> None:
    source = rollouts(model(), score_filler=False)
    source.batch(every(source))
    total = torch.stack([s.weight * s.scored.any(1) for s in source.kept]).mean(0)
    assert torch.allclose(total, torch.ones(6))


def settings(out: Path, **changes: Any) -> TrainSettings:
    base: dict[str, Any] = {
        "out": out, "steps": 6, "learning_rate": 0.02, "warmup": 0, "shape": "constant", "precision": "fp32",
        "evaluate_every": 6, "evaluate_rows": 6, "checkpoint_every": 1, "keep": 20,
    }  # fmt: skip
    return TrainSettings(**(base | changes))


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training" / "metrics.jsonl").read_text().splitlines()]


def run(out: Path, made: Model | None = None, steps: int = 6, **changes: Any) -> dict[str, Tensor]:
    chosen = ReinforceSettings(**{"num_prompts": 2, "num_generations": 4} | changes)
    trained = reinforce(made or model(), Odd(), settings(out, steps=steps), chosen)
    return {name: value.detach().clone() for name, value in trained.network.named_parameters()}


def test_the_first_ratio_is_one(tmp_path: Path) -> None:
    """At the first of several updates nothing is clipped away even by epsilon 0, and the reference is the policy."""
    run(tmp_path, num_iterations=3, epsilon=0.0, beta=0.1)
    found = lines(tmp_path)
    assert [round(one["clipped"], 6) == 0 for one in found] == [True, False, False, True, False, False]
    assert found[0]["kl"] == pytest.approx(0, abs=1e-6) and found[5]["kl"] > 1e-4
    rewards = [one["reward"] for one in found]
    assert rewards[0] == rewards[2] and rewards[3] == rewards[5] and rewards[0] != rewards[3]


@pytest.mark.parametrize("method", ["cj-grpo", "one-step", "diffu-grpo"])
def test_rewards_rise(method: str, tmp_path: Path) -> None:
    made = model(ass=False, steps=4)
    run(tmp_path, made, steps=15, method=method, num_generations=8, beta=0.0)
    rewards = [one["reward"] for one in lines(tmp_path)]
    assert rewards[0] < 0.5 and min(rewards[-3:]) > 0.8 and lines(tmp_path)[-1]["held_out_reward"] > 0.8
    again = load(tmp_path)
    assert again.system.name == "eoser-ass-cjgrpo" and again.settings.ass is False  # type: ignore[attr-defined]


@pytest.mark.parametrize(("method", "stop"), [("cj-grpo", 4), ("diffu-grpo", 4), ("cj-grpo", 3)])
def test_a_resumed_run_is_the_same_run(method: str, stop: int, tmp_path: Path) -> None:
    """Also between two updates on the same answers, whose policy is gone."""
    changes: dict[str, Any] = {"method": method, "num_iterations": 3, "beta": 0.1}
    whole = run(tmp_path / "whole", **changes)

    class Stopped(Exception):
        pass

    def on_log(facts: dict[str, Any]) -> None:
        if facts["step"] == stop + 1:
            raise Stopped

    chosen = ReinforceSettings(num_prompts=2, num_generations=4, **changes)
    with pytest.raises(Stopped):
        reinforce(model(), Odd(), settings(tmp_path / "cut"), chosen, on_log=on_log)
    resumed = run(tmp_path / "cut", **changes)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    keep = ("step", "loss", "reward", "kl", "clipped")
    both = [[{k: line[k] for k in keep} for line in lines(tmp_path / name)] for name in ("whole", "cut")]
    assert both[0] == both[1]


def test_a_run_with_other_settings_is_not_resumed(tmp_path: Path) -> None:
    run(tmp_path, steps=1)
    with pytest.raises(SettingError, match=r"holds a run with other settings \(beta 0.04 -> 0.2\)"):
        run(tmp_path, steps=1, beta=0.2)


def test_answers_that_a_kill_left_in_pieces_are_generated_again(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", steps=2, num_iterations=2)
    (tmp_path / "cut" / "training").mkdir(parents=True)
    (tmp_path / "cut" / "training" / "rollout.safetensors").write_bytes(b"half")
    cut = run(tmp_path / "cut", steps=2, num_iterations=2)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A model in a folder, as adapters need it."""
    pytest.importorskip("peft")
    made = model(ass=False, steps=4)
    extra = naming(made.checkpoint.extra, made.system, made.settings, "llada")
    return save(replace(made.checkpoint, block_size=LENGTH, extra=extra), tmp_path / "stored")


def test_adapters_alone_are_learnt_from_rewards(stored: Path, tmp_path: Path) -> None:
    """The frozen weights stay to the bit while the rewards rise, and what is written is the model that was learnt."""
    made, out = load(stored), tmp_path / "out"
    frozen: dict[str, Tensor] = {}

    def on_start(source: Rollouts, adapters: Lora | None) -> None:
        learnt = {name for name, p in made.network.named_parameters() if p.requires_grad}
        assert learnt and all(".lora_" in name for name in learnt)
        frozen.update((n, p.detach().clone()) for n, p in made.network.named_parameters() if n not in learnt)

    def on_log(facts: dict[str, Any]) -> None:
        now = dict(made.network.named_parameters())
        assert all(torch.equal(now[name], value) for name, value in frozen.items())
        assert any(bool(now[name].any()) for name in now if "lora_B" in name)

    chosen = ReinforceSettings(num_prompts=2, num_generations=8, beta=0.01)
    trained = reinforce(
        made, Odd(), settings(out, steps=15), chosen, lora=LoraSettings(lora=4), on_start=on_start, on_log=on_log
    )
    found = lines(out)
    assert frozen and found[0]["reward"] < 0.5 and min(line["reward"] for line in found[-3:]) > 0.7
    assert found[0]["kl"] == 0 and found[-1]["kl"] > 0.1
    for folder in (out, out / "adapter"):
        again = load(folder)
        assert again.system.name == "eoser-ass-cjgrpo" and again.settings.ass is False  # type: ignore[attr-defined]
        for one, other in zip(again.network.parameters(), trained.network.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_the_reference_is_the_network_without_its_adapters(stored: Path) -> None:
    made, plain = load(stored), load(stored)
    adapters = Lora(made.checkpoint, LoraSettings(lora=2))
    with torch.no_grad():
        for weight in made.network.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    source = Rollouts(made, Odd(), ReinforceSettings(num_prompts=2, num_generations=3), adapters=adapters)
    source.batch(every(source))
    for states in source.kept:
        assert states.reference is not None
        assert torch.equal(states.reference, source._score(plain.network, states))
        assert not torch.allclose(states.reference, source._score(made.network, states))
    assert any(p.requires_grad for p in made.network.parameters())


def test_a_run_with_adapters_is_resumed_with_them_alone(stored: Path, tmp_path: Path) -> None:
    def go(name: str, steps: int, rank: int | None = 2, **hooks: Any) -> dict[str, Tensor]:
        lora = None if rank is None else LoraSettings(lora=rank)
        chosen = ReinforceSettings(num_prompts=2, num_generations=4, num_iterations=2, beta=0.1)
        made = reinforce(load(stored), Odd(), settings(tmp_path / name, steps=steps), chosen, lora=lora, **hooks)
        return dict(made.network.named_parameters())

    class Stopped(Exception):
        pass

    def on_log(facts: dict[str, Any]) -> None:
        if facts["step"] == 4:
            raise Stopped

    whole = go("whole", 5)
    with pytest.raises(Stopped):
        go("cut", 5, on_log=on_log)
    for rank, said in ((3, "lora 2 -> 3"), (None, "lora 2 -> None")):
        with pytest.raises(SettingError, match=f"holds a run with other settings .*{said}"):
            go("cut", 5, rank)
    resumed = go("cut", 5)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_dropout_of_adapters_is_refused(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"lora_dropout is 0\.1, and the policy that learns would not be the one"):
        reinforce(load(stored), Odd(), settings(tmp_path / "out"), lora=LoraSettings(lora=2, lora_dropout=0.1))


def test_held_out_answers_are_judged() -> None:
    made = model()
    problems = Odd().problems(4)
    arguments = (made.network, made.parts, made.tokenizer, (END_ID,), LENGTH, Odd(), problems)
    rewards, answers = judge(*arguments)
    prompts = [made.encode(problem.prompt) for problem in problems]
    events = generate(made.network, prompts, LENGTH, **made.parts.sampling, stop=(END_ID,))
    assert {event.row for event in events} == {0, 1, 2, 3}
    assert rewards == [made.text(answer.content).count("7") / LENGTH for answer in answers]


@pytest.mark.parametrize(
    ("system", "changes", "settings", "message"),
    [
        ("tidar", {}, {}, "tidar does not reveal masks step by step; .*: dream, .*, llada, sdar$"),
        ("fast-dllm-v2", {"block_size": 8}, {}, "fast-dllm-v2 does not reveal masks step by step"),
        ("wedlm", {}, {}, "wedlm does not reveal masks step by step"),
        ("llada", {"top_k": 3}, {}, "top_k and top_p cut what the policy can say"),
        ("llada", {"guidance": 2.0}, {}, "guidance changes what the policy says"),
        ("llada", {"top_p": 0.9}, {}, "top_k and top_p cut what the policy can say"),
        (
            "llada",
            {"block_size": 2, "cache": "dual", "layers": 2},
            {"max_completion_length": 8},
            "use no stale cache: cache=none",
        ),
    ],
)
def test_what_cannot_be_reinforced(system: str, changes: Any, settings: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        source = rollouts(model(system, **changes), **settings)
        source.batch(every(source))


def test_no_tokenizer() -> None:
    made = copy.copy(model())
    made.checkpoint.tokenizer = None
    with pytest.raises(SettingError, match="has no tokenizer"):
        rollouts(made)
