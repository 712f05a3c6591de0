"""A part is one file: dropped into its folder it is there, on the command line too, and nothing else is edited."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from typer.testing import CliRunner

from interlace.attention.patterns import Pattern
from interlace.checkpoints import Checkpoint, save
from interlace.cli import app
from interlace.discovery import kebab, modules, parts
from interlace.errors import SettingError
from interlace.grid import Schedule
from interlace.nn import Transformer, TransformerConfig
from interlace.processes import Process
from interlace.reveal import Reveal, rules
from interlace.schedules import parse_schedule, schedule_text, schedules
from interlace.systems import find, systems

BACKWARDS = '''
from dataclasses import dataclass
from interlace.grid import Levels, Move
from interlace.schedules import BlockByBlock

@dataclass(frozen=True)
class FromTheEnd:
    """The last unit that is not clean."""
    steps: int

    def __call__(self, levels: Levels, start: int = 0) -> Move | None:
        units = [u for u, value in enumerate(levels.value) if value > 0]
        return Move((units[-1],), (min(int(levels.visits[units[-1]]), self.steps - 1),), self.steps) if units else None

@dataclass(frozen=True)
class Nothing:
    """No schedule: it is called with something else."""

    def __call__(self, other: int) -> None: ...
'''
RIGHTMOST = '''
from dataclasses import dataclass, field
import torch
from interlace.reveal import Proposal

@dataclass(frozen=True)
class Rightmost:
    threshold: float = 0.9
    more: list[int] = field(default_factory=list)

    def __call__(self, proposal: Proposal):
        place = torch.arange(proposal.open.shape[1]).expand(proposal.open.shape)
        return proposal.top(place.float(), torch.ones_like(proposal.quota))

@dataclass(frozen=True)
class Around:
    """Needs what no settings have."""
    rule: object

    def __call__(self, proposal: Proposal):
        return self.rule(proposal)
'''
PATTERN = '''
from dataclasses import dataclass

@dataclass(frozen=True)
class OnlyItself:
    def __call__(self, q, k):
        return q.index == k.index
    def horizon(self, unit, units):
        return unit
    def full(self, first, last, size):
        return False
'''
PROCESS = '''
from dataclasses import dataclass
from interlace.processes import AbsorbingMask

@dataclass(frozen=True)
class TwiceTheLoss(AbsorbingMask):
    def loss(self, prediction, clean, noisy, level):
        return 2 * super().loss(prediction, clean, noisy, level)
'''
SYSTEM = '''
from dataclasses import replace
from interlace.processes.twice import TwiceTheLoss
from interlace.systems import sdar

def parts(settings):
    usual = sdar.parts(settings)
    return replace(usual, process=TwiceTheLoss(settings.mask_id, settings.rule(), settings.sampler()))

SYSTEM = replace(sdar.SYSTEM, name="sdar-twice", parts=parts)
'''
TABLES = (schedules, rules, systems)


@pytest.fixture
def drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """``drop(folder, name, text)``: that file lies in that folder of the package, until the test ends."""
    before = set(sys.modules)

    def put(folder: str, name: str, text: str) -> None:
        package = import_module(f"interlace.{folder}")
        beside = tmp_path / folder
        if not beside.exists():
            beside.mkdir()
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(beside)])
        (beside / f"{name}.py").write_text(text)
        for table in TABLES:
            table.cache_clear()

    yield put
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            package, _, last = name.rpartition(".")
            delattr(sys.modules[package], last)
            del sys.modules[name]
    monkeypatch.undo()
    for table in TABLES:
        table.cache_clear()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A block-diffusion model of random weights and blocks of 4, without a tokenizer."""
    config = TransformerConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8
    )
    folder, network = tmp_path_factory.mktemp("models") / "tiny", Transformer(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=0.7, generator=torch.Generator().manual_seed(1))
    return str(save(Checkpoint(network, None, "sdar", block_size=4, mask_token_id=39), folder))


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], prog_name="interlace")


def test_a_schedule_is_a_file(drop: Any, model: str) -> None:
    drop("schedules", "from_the_end", BACKWARDS)
    shown = call("show", "from-the-end:steps=1", "--units", 3, "--json")
    assert [move["units"] for move in json.loads(shown.stdout)["moves"]] == [[2], [1], [0]], shown.output
    schedule = parse_schedule("from-the-end: steps = 2")
    assert schedule_text(schedule) == "from-the-end:steps=2"  # its annotations are types, not text
    for line in ("from-the-end", "from-the-end:step=1"):
        assert "write from-the-end:steps=N" in call("show", line).stderr
    assert "from-the-end" in call("show", "nothing").stderr and "nothing" not in schedules()

    plain = ("generate", "--model", model, "--tokens", "1 2 3 4", "--length", 8, "--reveal", "static", "--json")
    lines = ("block-by-block:steps=2", "from-the-end:steps=2")
    usual, other = (json.loads(call(*plain, "--schedule", line).stdout) for line in lines)
    assert usual["forwards"] == other["forwards"] == 4
    assert usual["tokens"] != other["tokens"]  # the last block knew nothing of the one before it


def test_a_rule_is_a_file(drop: Any, model: str) -> None:
    plain = ("generate", "--model", model, "--tokens", "1 2 3 4", "--length", 4, "--json")
    assert call(*plain, "--reveal", "rightmost").exit_code == 2
    drop("reveal", "rightmost", RIGHTMOST)
    row = json.loads(call(*plain, "--reveal", "rightmost").stdout)
    assert row["order"] == [3, 2, 1, 0]
    rule = find("sdar").settings.but(reveal="rightmost", threshold=0.3).rule()
    assert type(rule).__name__ == "Rightmost" and rule.threshold == 0.3
    refused = call(*plain, "--reveal", "around")
    assert refused.exit_code == 2 and "'rightmost'" in refused.stderr and "'damped'" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_pattern_is_a_file(drop: Any) -> None:
    drop("attention", "only_itself", PATTERN)
    shown = call("show", "only-itself", "--units", 2, "--block-size", 1, "--json")
    assert json.loads(shown.stdout)["sees"] == [[1, 0], [0, 1]], shown.output


def test_a_process_is_a_file_and_a_system_imports_it_from_there(drop: Any, model: str) -> None:
    drop("processes", "twice", PROCESS)
    drop("systems", "sdar_twice", SYSTEM)
    assert re.search(r"\nprocess +TwiceTheLoss\(", call("show", "sdar-twice").stdout)
    row = call("generate", "--model", model, "--system", "sdar-twice", "--tokens", "1 2 3", "--length", 5, "--json")
    assert len(json.loads(row.stdout)["tokens"]) == 5, row.output


@pytest.mark.parametrize(
    ("package", "protocol", "some"),
    [
        ("schedules", Schedule, {"diagonal", "successive"}),
        ("reveal", Reveal, {"tempered", "near-certain"}),
        ("attention", Pattern, {"causal", "two-copy"}),
        ("processes", Process, {"flow-matching", "absorbing-mask"}),
    ],
)
def test_every_part_in_the_box_is_found_by_its_file(package: str, protocol: type, some: set[str]) -> None:
    found = parts(f"interlace.{package}", protocol)
    assert some <= set(found) and list(found) == sorted(found)
    assert all(kebab(kind) == name for name, kind in found.items())
    assert not {"proposal", "turn", "tags", "evenly", "doubled"} & set(found)


class Twice(Protocol):
    def __call__(self, one: int) -> int: ...

    def half(self, one: int) -> int: ...


def test_who_obeys_has_every_method_with_its_arguments(drop: Any) -> None:
    body = "from dataclasses import dataclass\n\n@dataclass\nclass {}:\n"
    body += "    def __call__(self, one): ...\n    def half(self, {}): ...\n"
    drop("paces", "right", body.format("Right", "one"))
    drop("paces", "wrong", body.format("Wrong", "two"))
    drop("paces", "plain", body.format("Plain", "one").replace("@dataclass\n", ""))
    assert list(parts("interlace.paces", Twice)) == ["right"]
    drop("paces", "second", body.format("Right", "one"))
    with pytest.raises(SettingError, match=r"paces\.right and interlace\.paces\.second both give right; rename one"):
        parts("interlace.paces", Twice)


def test_modules_are_those_of_the_folder() -> None:
    names = [module.__name__ for module in modules("interlace.paces")]
    assert names == [f"interlace.paces.{name}" for name in ("doubling", "even", "growing", "proportional", "protocol")]
