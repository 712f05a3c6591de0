"""A system that nothing in the box names, with a process of its own that has no mask: what it meets everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field, ValidationError

from interlace import systems
from interlace.cli.measuring import Questions, measured
from interlace.cli.models import _changed
from interlace.errors import SettingError
from interlace.evaluation import likelihood
from interlace.evaluation.likelihood import exact, kind
from interlace.guidance import UnsupervisedGuidance
from interlace.model import Model, facts, naming
from interlace.processes import Process, UniformTokens
from interlace.recipes import adapt
from interlace.systems import Parts, System, find
from interlace.systems.llada import parts as llada
from interlace.systems.system import TextSettings
from interlace.training.objectives import OneCopyLoss
from interlace.training.settings import TrainSettings
from interlace.training.text import DataSettings

from ..letters import model as model_of


@dataclass(frozen=True)
class Wandering:
    """Random tokens that say nothing of the cost of a step."""

    inner: Process = field(default_factory=UniformTokens)

    def __getattr__(self, name: str) -> Any:
        if name == "divergence":
            raise AttributeError(name)
        return getattr(self.inner, name)


SYSTEMS: Any = systems.systems.__wrapped__
"""What looks for the files, each time anew."""


class Own(TextSettings):
    """Asks how many tokens there are, and for a file."""

    vocab_size: int = Field(7, ge=1, description="tokens of the vocabulary")
    table: Path | None = Field(None, description="a file")


def own(settings: Own) -> Parts:
    process: Any = Wandering()
    parts = llada(find("llada").settings.but(block_size=settings.block_size, steps=settings.steps))
    objective: Any = parts.objective
    return replace(parts, process=process, objective=OneCopyLoss(process, objective.layout, objective.pattern))


OWN = System("own", "Own", "", "random tokens", "text", Own(), own, written_as=("qwen3",), block_sizes="free")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    every = systems.systems()
    monkeypatch.setattr(systems, "systems", lambda: every | {"own": OWN})
    yield


def base(mask: bool) -> Model:
    model = model_of("ar")
    return model if mask else replace(model, checkpoint=replace(model.checkpoint, mask_token_id=None))


def test_it_is_told_what_the_checkpoint_says() -> None:
    found = base(True).under("own")
    said, asked = facts(found.checkpoint), found.settings.model_dump()
    assert asked["vocab_size"] == said["vocab_size"] == found.checkpoint.config.vocab_size != OWN.settings.vocab_size  # type: ignore[attr-defined]
    assert asked["mask_id"] == said["mask_id"] == found.checkpoint.mask_token_id != OWN.settings.mask_id  # type: ignore[attr-defined]


def test_only_systems_of_masks_need_a_mask() -> None:
    assert not OWN.masks and find("llada").masks and not find("ar").masks
    row = base(False).under("own").with_(block_size=4, steps=2).complete([1, 2], 4)
    assert len(row.content) == 4
    with pytest.raises(SettingError, match="no mask token, so llada cannot decode it"):
        base(False).under("llada")


@pytest.mark.parametrize("change", [{"mask_id": 3}, {"vocab_size": 3}, {"mask_id": "3"}])
def test_what_the_checkpoint_says_is_nobody_elses_to_set(change: dict[str, Any]) -> None:
    model = base(True).under("own")
    with pytest.raises(SettingError, match=f"^{next(iter(change))} is what the checkpoint says, .*leave it out$"):
        model.with_(**change)
    assert model.with_(mask_id=model.checkpoint.mask_token_id).settings == model.settings


def test_any_setting_can_be_written(tmp_path: Path) -> None:
    """config.json is JSON, whatever the types of a system's settings are."""
    settings = OWN.settings.but(table=tmp_path / "t", order_temperature=float("inf"))
    config = naming({}, OWN, settings, "qwen3")["config"]
    read = json.loads(json.dumps(config))["settings"]
    assert read.keys() == {"table", "order_temperature"} and OWN.settings.but(**read) == settings


def test_adapted_without_a_mask(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("abc def gh\n" * 200)
    start = base(False)
    training = TrainSettings(out=tmp_path / "out", steps=1, batch_rows=2, evaluate_rows=2)
    data = DataSettings(data=str(corpus), length=16)
    made = adapt(start, training, data, "own", 4, {"table": "t"})
    assert made.checkpoint.mask_token_id is None and made.checkpoint.block_size == 4
    with pytest.raises(SettingError, match="vocab_size is no other setting"):
        adapt(start, training, data, "own", 4, {"vocab_size": 9})


def test_without_a_bound_all_else_is_measured() -> None:
    model = base(True).under("own")
    assert (kind(model), kind(base(True)), kind(base(True).under("llada"))) == (None, "exact", "bound")
    for asked in (lambda: exact(model), lambda: likelihood(model, ["abc"])):
        with pytest.raises(SettingError, match=r"own has no likelihood here \(Wandering .*; leave the likelihood out"):
            asked()
    found = measured("own", model, Questions(["abc"], [], [], False), [], 1, 4, 1, 0)
    assert found["likelihood"] is None
    json.dumps(found)


def test_guidance_that_masks_needs_a_mask() -> None:
    model = base(True).under("own")
    with pytest.raises(SettingError, match="this guidance masks the prompt, and Wandering has no mask; leave it out"):
        model.complete([1, 2], 4, guide=UnsupervisedGuidance(2.0), memory="none")


def test_a_setting_that_changes_nothing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """What it never reads, and what another rule would read."""
    model = base(True).under("own")
    assert OWN.reads(model.settings) == {"block_size", "steps"}
    changed = _changed(model, {"threshold": 0.5, "steps": 2, "gamma": None, "set": ["table=t"]})
    assert (changed.settings.threshold, changed.settings.steps) == (0.5, 2)  # type: ignore[attr-defined]
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == ["table", "threshold"] and all("of own" in line for line in said)
    sdar = find("sdar")
    read = {rule: sdar.reads(sdar.settings.but(reveal=rule)) for rule in ("static", "threshold", "entropy-bounded")}
    assert [("threshold" in names, "gamma" in names) for names in read.values()] == [
        (False, False), (True, False), (False, True),
    ]  # fmt: skip


def test_a_file_is_named_at_the_command_line_and_by_no_request() -> None:
    with pytest.raises(ValidationError):
        Own.model_validate({"table": "/etc/passwd"}, strict=True)  # as the server reads settings
    assert OWN.settings.but(table="t").table == Path("t")


def test_two_files_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither hides the other; a file that takes over another's system is no second one."""
    one, again = (SimpleNamespace(__name__=name, SYSTEM=OWN) for name in ("a", "b"))
    other = SimpleNamespace(__name__="c", SYSTEM=replace(OWN, title="Other"))
    found: list[Any] = [one, again]
    monkeypatch.setattr(systems, "modules", lambda package: iter(found))
    assert SYSTEMS() == {"own": OWN}
    found.append(other)
    with pytest.raises(SettingError, match=r"^a and c are both systems named 'own'; rename one$"):
        SYSTEMS()


def test_a_check_that_is_not_there_yet() -> None:
    from interlace.claims import reproduce

    said = r"'diffusion-gemma' has no claim check; .*; write claims/diffusion_gemma\.py$"
    with pytest.raises(SettingError, match=said):
        reproduce("diffusion-gemma")
    with pytest.raises(SettingError, match=r"'sadr' has no claim check; those that have one: [^;]*$"):
        reproduce("sadr")
