"""What a step does: gradients, learning rate, average, clock; what an evaluation and a run leave alone."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interlace.errors import DataError, SettingError
from interlace.training import loop
from interlace.training.loop import evaluate
from interlace.training.objectives import Loss
from interlace.training.optimizers import learning_rate, make_optimizers
from interlace.training.state import load_state
from interlace.training.text import DataSettings, text_rows


def close(one: dict[str, Tensor], other: dict[str, Tensor], atol: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=atol, rtol=atol, msg=lambda m, n=name: f"{n}: {m}")


# The step


@pytest.mark.parametrize("objective", ["next token", "two copies"])
def test_accumulation_equals_one_batch(tiny: Any, tmp_path: Path, objective: str) -> None:
    whole = tiny.run(tmp_path / "1", objective)
    for parts in (2, 4):
        close(tiny.run(tmp_path / str(parts), objective, accumulation=parts), whole, 1e-5)
    one, four = (tiny.lines(tmp_path / parts) for parts in ("1", "4"))
    assert [line["loss"] for line in four] == pytest.approx([line["loss"] for line in one], rel=1e-5)


def test_the_gradient_is_that_of_the_mean_over_all_learnt_tokens(tiny: Any, tmp_path: Path) -> None:
    """One step of plain arithmetic: p - rate * clip(g), with the optimizer replaced by descent."""
    network = tiny.network()
    reference = tiny.network()
    batch = tiny.Counting().batch(range(8))
    loss = tiny.OBJECTIVES["next token"](reference, batch, 0, 0)
    (loss.total / loss.count).backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in reference.parameters()))

    def descent(named: Any, *_: Any) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD([{"params": [p for _, p in named], "scale": 1.0}], lr=0.0)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_optimizers", descent)
        once = {"steps": 1, "clip": 0.25, "shape": "constant", "warmup": 0, "learning_rate": 0.5, "accumulation": 4}
        settings = tiny.settings(tmp_path, **once)
        tiny.train(network, tiny.OBJECTIVES["next token"], tiny.Counting(), settings)
    assert norm > 0.25
    (line,) = tiny.lines(tmp_path)
    assert line["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert line["loss"] == pytest.approx(float(loss.total.detach() / loss.count), rel=1e-5)
    for (name, new), old in zip(network.named_parameters(), reference.parameters(), strict=True):
        expected = old.detach() - 0.5 * old.grad * 0.25 / norm
        torch.testing.assert_close(new.detach(), expected, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("shape", "warmup", "decay", "rates"),
    [
        ("constant", 4, 0.0, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("wsd", 2, 0.5, [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ("wsd", 0, 1.0, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", 0, 0.0, [0.55 + 0.45 * math.cos(math.pi * s / 8) for s in range(8)]),
    ],
)
def test_learning_rate(tiny: Any, tmp_path: Path, shape: str, warmup: int, decay: float, rates: list[float]) -> None:
    assert [learning_rate(s, 8, 1.0, warmup, decay, shape) for s in range(8)] == pytest.approx(rates)
    tiny.run(tmp_path, shape=shape, warmup=warmup, decay=decay, learning_rate=0.01)
    assert [line["learning_rate"] for line in tiny.lines(tmp_path)] == pytest.approx([0.01 * r for r in rates])


def test_average(tiny: Any, tmp_path: Path) -> None:
    """a <- decay a + (1 - decay) p, from the first weights on; it is what is evaluated and returned, not trained on."""
    options: dict[str, Any] = {"checkpoint_every": 1, "keep": 8}
    averaged = tiny.run(tmp_path / "average", ema=0.75, probe=True, **options)
    plain = tiny.run(tmp_path / "plain", probe=True, **options)
    expected = {name: p.detach().clone() for name, p in tiny.network().named_parameters()}
    for step in range(1, 9):
        there, _ = load_state(tmp_path / "average" / "training" / "checkpoints" / f"step-{step:08d}")
        here, _ = load_state(tmp_path / "plain" / "training" / "checkpoints" / f"step-{step:08d}")
        for name, value in expected.items():
            assert torch.equal(there["model"][f"network.{name}"], here["model"][f"network.{name}"])
            value.copy_(0.75 * value + 0.25 * here["model"][f"network.{name}"])
            torch.testing.assert_close(there["average"][f"network.{name}"], value, atol=1e-6, rtol=1e-6)
    close(averaged, expected, 1e-6)
    line = tiny.lines(tmp_path / "average")[-1]
    assert line["embedded"] == pytest.approx(float(averaged["embed.weight"].double().sum()))
    network = tiny.network()
    network.load_state_dict(averaged, strict=False)
    held_out = evaluate(network, tiny.OBJECTIVES["next token"], tiny.Counting(first=1000), 4)
    assert line["held_out_loss"] == pytest.approx(held_out["loss"], rel=1e-5)
    assert plain["embed.weight"].ne(averaged["embed.weight"]).any()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_bf16_learns_as_fp32_does(tiny: Any, tmp_path: Path, optimizer: str) -> None:
    losses = {}
    for precision in ("bf16", "fp32"):
        weights = tiny.run(tmp_path / precision, precision=precision, optimizer=optimizer, steps=30)
        assert all(w.dtype == torch.float32 for w in weights.values())
        losses[precision] = tiny.lines(tmp_path / precision)[-1]["held_out_loss"]
    assert losses["bf16"] != losses["fp32"] and losses["bf16"] == pytest.approx(losses["fp32"], abs=0.1)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", None)])
def test_training_in_float32_orthogonalises_in_it(precision: str, dtype: Any, tiny: Any, tmp_path: Path) -> None:
    asked: list[Any] = []
    plain = loop.make_optimizers

    def watched(*given: Any) -> Any:
        asked.append(given[3])
        return plain(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_optimizers", watched)
        tiny.run(tmp_path, precision=precision, optimizer="muon", steps=1)
    assert asked == [dtype]


def test_the_precision_may_differ_from_run_to_run_in_a_process(tiny: Any, tmp_path: Path) -> None:
    once = tiny.run(tmp_path / "1", precision="bf16")
    tiny.run(tmp_path / "2", precision="fp32")
    again = tiny.run(tmp_path / "3", precision="bf16")
    close(once, again, 0.0)


def test_muon_takes_the_matrices_of_the_blocks(tiny: Any) -> None:
    named = dict(tiny.network(tied=False).named_parameters())
    adamw, muon = make_optimizers(named.items(), "muon", 0.1)
    names = {id(p): n for n, p in named.items()}
    taken = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    parts = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    assert taken == {f"blocks.{i}.{part}.weight" for i in (0, 1) for part in parts}
    rest = {names[id(p)]: group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    assert rest.keys() == named.keys() - taken
    assert rest["embed.weight"] == rest["output.weight"] == 0.1 and rest["norm.weight"] == 0.0


# The clock


@pytest.mark.parametrize("shape", ["wsd", "cosine"])
def test_a_time_limited_run_ends_with_the_rate_decayed(tiny: Any, tmp_path: Path, shape: str) -> None:
    tiny.run(tmp_path, shape=shape, decay=0.5, steps=100_000, seconds=1.5, evaluate_every=10**6, checkpoint_every=10**6)
    lines = tiny.lines(tmp_path)
    rates = [line["learning_rate"] / 0.02 for line in lines]
    assert 3 < len(lines) < 100_000 and lines[-1]["seconds"] >= 1.5
    assert rates[-1] < (0.15 if shape == "wsd" else 0.12) and max(rates) > 0.9
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[2:]))
    assert "held_out_loss" in lines[-1]
    assert load_state(next((tmp_path / "training" / "checkpoints").iterdir()))[1]["step"] == len(lines)
    tiny.run(tmp_path, shape=shape, decay=0.5, steps=100_000, seconds=1.5, evaluate_every=10**6, checkpoint_every=10**6)
    assert tiny.lines(tmp_path) == lines


def test_a_limit_that_an_evaluation_crosses(tiny: Any, tmp_path: Path) -> None:
    """The run goes on to a last step, which is evaluated and saved."""

    def slow(_: Any) -> dict[str, float]:
        time.sleep(0.6)
        return {"slow": 1.0}

    settings = tiny.settings(tmp_path, steps=10_000, seconds=0.5, evaluate_every=2, checkpoint_every=10**6)
    tiny.train(tiny.network(), tiny.OBJECTIVES["next token"], tiny.Counting(), settings, probes=[slow])
    lines = tiny.lines(tmp_path)
    assert len(lines) == 3 and "slow" in lines[-1]
    assert load_state(next((tmp_path / "training" / "checkpoints").iterdir()))[1]["step"] == 3


# What is left alone


def test_no_global_generator_is_used(tiny: Any, tmp_path: Path) -> None:
    def states() -> list[Any]:
        return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # type: ignore[index]

    results = []
    for seed in (1, 2):
        network, settings = tiny.network(), tiny.settings(tmp_path / str(seed), ema=0.5, optimizer="muon")
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        before = states()
        tiny.train(network, tiny.OBJECTIVES["two copies"], tiny.Counting(), settings, tiny.Counting(first=1000))
        assert states() == before
        results.append(dict(network.named_parameters()))
    close(*results, atol=0.0)


def test_an_evaluation_is_deterministic_and_changes_nothing(tiny: Any, tmp_path: Path) -> None:
    network, objective, rows = tiny.network(), tiny.OBJECTIVES["two copies"], tiny.Counting()
    network.train()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    first = evaluate(network, objective, rows, 20)
    assert first == evaluate(network.eval(), objective, rows, 20) and not network.training
    assert first != evaluate(network, objective, rows, 20, seed=1)
    assert evaluate(network, objective, rows, 20, at_once=3)["loss"] == pytest.approx(first["loss"], rel=1e-5)
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in network.named_parameters())
    assert first["standard_error"] > 0


def test_evaluations_and_probes_do_not_touch_the_training(tiny: Any, tmp_path: Path) -> None:
    with_them = tiny.run(tmp_path / "with", "two copies", evaluate_every=1, probe=True, ema=0.5)
    without = tiny.run(tmp_path / "without", "two copies", ema=0.5)
    close(with_them, without, 0.0)


def test_a_failing_probe_leaves_the_weights_as_they_were(tiny: Any, tmp_path: Path) -> None:
    class Fault(Exception):
        pass

    def fail(_: Any) -> dict[str, float]:
        raise Fault

    network, settings = tiny.network(), tiny.settings(tmp_path, ema=0.5)
    with pytest.raises(Fault):
        tiny.train(network, tiny.OBJECTIVES["next token"], tiny.Counting(), settings, probes=[fail])
    there, _ = load_state(tmp_path / "training" / "checkpoints" / "step-00000002")
    assert network.embed.weight.ne(there["average"]["network.embed.weight"]).any()


# What cannot be


class Broken:
    """The objective, broken from a step on: in the loss, or in the gradient alone."""

    def __init__(self, objective: Any, step: int, what: str) -> None:
        self.objective, self.step, self.what = objective, step, what

    def __call__(self, network: Any, batch: Any, seed: int, step: int) -> Loss:
        loss = self.objective(network, batch, seed, step)
        if step < self.step:
            return loss
        if self.what == "loss":
            return replace_total(loss, loss.total * float("nan"))
        # sqrt has no finite slope at 0
        return replace_total(loss, loss.total + (network.embed.weight * 0).sum().sqrt())


def replace_total(loss: Loss, total: Tensor) -> Loss:
    return loss._replace(total=total)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nothing_is_learnt_or_saved_from_what_is_not_finite(tiny: Any, tmp_path: Path, what: str) -> None:
    network = tiny.network()
    objective = Broken(tiny.OBJECTIVES["next token"], 4, what)
    settings = tiny.settings(tmp_path, checkpoint_every=1)
    with pytest.raises(SettingError) as caught:
        tiny.train(network, objective, tiny.Counting(), settings)
    message = str(caught.value)
    assert "nan at step 5; lower learning_rate (0.02) or clip (1) and start again with another --out" in message
    assert "step-00000004 is as it was" in message and "\n" not in message
    saved, _ = load_state(tmp_path / "training" / "checkpoints" / "step-00000004")
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, saved["model"][f"network.{name}"]) and parameter.isfinite().all()
    assert len(list((tmp_path / "training" / "checkpoints").iterdir())) == 2
    assert [line["step"] for line in tiny.lines(tmp_path)] == [1, 2, 3, 4]


def test_weights_that_are_not_finite_are_not_saved(tiny: Any, tmp_path: Path) -> None:
    from interlace.errors import CheckpointError
    from interlace.training.state import save_state

    weight = torch.tensor([1.0, float("inf")])
    with pytest.raises(CheckpointError, match=r"a\.b holds NaN or Inf after step 3, which is not saved"):
        save_state(tmp_path, 3, {"model": {"a.b": weight}, "optimizer": {}}, {"seconds": 1.0}, 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("rows", "accumulation"), [(9, 2), (8, 3), (1, 2)])
def test_rows_that_cannot_be_divided(tiny: Any, tmp_path: Path, rows: int, accumulation: int) -> None:
    with pytest.raises(SettingError, match=f"batch_rows {rows} cannot be divided into 1 processes x {accumulation}"):
        tiny.run(tmp_path / "out", batch_rows=rows, accumulation=accumulation)
    assert not (tmp_path / "out").exists()


def test_weights_too_coarse_to_train(tiny: Any, tmp_path: Path) -> None:
    network = tiny.network().bfloat16()
    with pytest.raises(SettingError, match="load the model in float32"):
        tiny.train(network, tiny.OBJECTIVES["next token"], tiny.Counting(), tiny.settings(tmp_path))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from interlace.worlds.tokenizer import train_tokenizer

    return train_tokenizer(["def f(x): return x + 1\n"] * 20, 264)


def test_a_corpus_shorter_than_a_row_is_one_row(tiny: Any, tmp_path: Path, tokenizer: Any) -> None:
    file = tmp_path / "few.txt"
    file.write_text("def f(x)")
    data = DataSettings(data=str(file), length=64)
    rows = text_rows(data, tokenizer, "train", multiple=4, seed=0)
    batch = rows.batch(range(3))
    learnt = int((batch.document[0] >= 0).sum())
    assert batch.content.shape == (3, 64) and 4 <= learnt < 16 and (batch.content == batch.content[:1]).all()
    config = replace(tiny.network().config, vocab_size=264, max_positions=64)
    network = type(tiny.network())(config).initialise(torch.Generator().manual_seed(0))
    settings = tiny.settings(tmp_path / "out", steps=30, evaluate_every=30)
    tiny.train(network, tiny.OBJECTIVES["next token"], rows, settings, held_out=rows)
    lines = tiny.lines(tmp_path / "out")
    assert lines[-1]["held_out_loss"] < 0.5 * lines[0]["loss"]


def test_a_corpus_that_is_not_there(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(DataError, match="nowhere"):
        text_rows(DataSettings(data=str(tmp_path / "nowhere")), tokenizer)


# What is seen


def test_plain_lines_without_a_terminal(tiny: Any, tmp_path: Path, capsys: Any) -> None:
    tiny.run(tmp_path, steps=10, evaluate_every=4)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == "" and [line.split("  ")[0] for line in lines] == ["step 4/10", "step 8/10", "step 10/10"]
    assert all("loss" in line and "tokens/s" in line and "held out loss" in line for line in lines)
    assert "min left" in lines[-1] and "\x1b" not in said.err and "\r" not in said.err


def test_a_bar_in_a_terminal(tiny: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    tiny.run(tmp_path)
    said = capsys.readouterr().err
    assert "training" in said and "tokens/s" in said and "step 8/8" in said


def test_what_a_line_of_metrics_holds(tiny: Any, tmp_path: Path) -> None:
    tiny.run(tmp_path, probe=True)
    lines = tiny.lines(tmp_path)
    always = {"step", "loss", "learning_rate", "gradient_norm", "tokens_per_second", "seconds"}
    assert all(always <= line.keys() for line in lines)
    extra = {"held_out_loss", "held_out_standard_error", "embedded"}
    assert [extra <= line.keys() for line in lines] == [False] * 3 + [True] + [False] * 3 + [True]
    assert json.loads((tmp_path / "training" / "settings.json").read_text())["steps"] == 8


def test_tensorboard(tiny: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tiny.run(tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "training" / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("loss")] == list(range(1, 9))
    assert events.Scalars("loss")[-1].value == pytest.approx(tiny.lines(tmp_path)[-1]["loss"], rel=1e-5)


def test_tensorboard_that_is_not_installed(tiny: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "tensorboard" or n == "torch.utils.tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SettingError, match=r"TensorBoard is not installed; pip install 'interlace\[tensorboard\]'"):
        tiny.run(tmp_path, tensorboard=True)
    assert not (tmp_path / "training" / "metrics.jsonl").exists()
