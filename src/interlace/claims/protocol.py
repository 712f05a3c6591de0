"""What a claim check gives back, how it is run, and what is kept of it.

A check measures; it does not judge. It trains its arms, returns ``Findings`` (the numbers of every arm, and for every
condition of the claim whether it held), and the verdict follows: all conditions held, some, or none. The runner adds
what a check could get wrong: the paper's words, the machine, the date, the version of the code.

A complete check, ``src/interlace/claims/my_system.py`` for the system ``my-system``::

    from .protocol import Arm, Findings, Say

    def check(say: Say, seed: int = 0) -> Findings:
        say("autoregression, 2 minutes")                    # one line on the terminal; train() draws its own bar below
        with tempfile.TemporaryDirectory() as folder:       # training wants a place; nothing of it is kept
            ...
        ar = Arm(numbers={"exact match": 0.91}, steps=800, tokens=1_600_000, seconds=121.0, about="next token")
        sdar = Arm(numbers={"exact match": 0.92, "tokens per forward": 1.7}, steps=400, tokens=800_000, seconds=63.5)
        return Findings(
            arms={"AR continued": ar, "SDAR, threshold 0.9": sdar},
            baseline="AR continued",
            conditions={
                "adapted >= AR continued - 2 points": sdar.numbers["exact match"] >= ar.numbers["exact match"] - 0.02,
                "at least 1.5 tokens per forward": sdar.numbers["tokens per forward"] >= 1.5,
            },
            why="The adapted model keeps the accuracy and makes 1.7 tokens per forward on 500 unseen additions.",
            setting="3-digit additions with written carries; 4 layers, width 128, 0.8 M parameters; block_size 4",
            seeds=[seed],
        )

Shares are numbers from 0 to 1 (exact match 0.91), times are seconds; name everything else with its unit. What is a
function rather than a number goes into ``curves``.

A method that works on the network of any system is none itself; the file of its check says what it is::

    METHOD = Method(title="My method", paper="arXiv:0000.00000", claim=Claim(paper="...", reproduced_if="..."))
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .. import __version__
from ..errors import DataError, SettingError

if TYPE_CHECKING:
    from ..systems import Claim, System

__all__ = [
    "Arm",
    "Curves",
    "Findings",
    "Machine",
    "Method",
    "Record",
    "Say",
    "Verdict",
    "checks",
    "read_records",
    "reproduce",
    "subject",
]

Say = Callable[[str], None]
"""Tell the person who waits what begins now, in a few words."""

Verdict = Literal["reproduced", "in part", "not reproduced"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Arm(_Strict):
    """One contestant: what was measured of it, and what it cost to train.

    The cost is that of the whole path to this arm from random weights, so that arms are compared at equal cost or seen
    not to be.
    """

    numbers: dict[str, float] = Field(min_length=1, description="what was measured, by name")
    steps: int = Field(0, ge=0, description="optimizer steps")
    tokens: int = Field(0, ge=0, description="tokens (or patches) trained on, both copies of a row counted once")
    seconds: float = Field(0.0, ge=0, description="training time")
    about: str = Field("", description="what this arm is, in a few words")


class Curves(_Strict):
    """Lines over the same two axes: the points (x, y) of each, by name."""

    title: str
    x: str = Field(description="what the first axis counts, with its unit")
    y: str
    lines: dict[str, list[tuple[float, float]]] = Field(min_length=1)


class Findings(_Strict):
    """What a check gives back.

    arms: by name, in the order to be shown. baseline: the arm that the claim is relative to. conditions: every part of
    ``reproduced_if``, and whether it held. why: one honest sentence about the outcome, limits included. setting: data,
    size of the network, block size. seeds: all that were run. curves: what one number does not say.
    """

    arms: dict[str, Arm] = Field(min_length=1)
    baseline: str
    conditions: dict[str, bool] = Field(min_length=1)
    why: str = Field(min_length=1)
    setting: str = ""
    seeds: list[int] = Field(min_length=1)
    curves: list[Curves] = []

    @model_validator(mode="after")
    def _baseline_is_an_arm(self) -> Findings:
        if self.baseline not in self.arms:
            raise ValueError(f"baseline {self.baseline!r} is none of the arms: {', '.join(self.arms)}")
        return self

    @property
    def verdict(self) -> Verdict:
        """All conditions held: reproduced; some: in part; none: not reproduced."""
        held = sum(self.conditions.values())
        return "reproduced" if held == len(self.conditions) else "in part" if held else "not reproduced"


class Machine(_Strict):
    """What it ran on; nothing that tells whose it is."""

    cpu: str
    cores: int
    gpu: str | None = None
    torch: str
    python: str
    threads: int

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        import torch

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        threads = torch.get_num_threads()
        return cls(
            cpu=_cpu(), cores=cores, gpu=gpu, torch=torch.__version__, python=platform.python_version(), threads=threads
        )


@dataclass(frozen=True)
class Method:
    """What works on the network of any system: where it comes from, and its claim."""

    title: str
    paper: str
    claim: Claim


class Record(_Strict):
    """One run of a check: the paper's claim beside what was measured here. ``results/NAME.json`` holds one.

    system: the name of the system, or of the method.
    """

    system: str
    title: str
    paper: str
    claim: str
    reproduced_if: str
    findings: Findings
    verdict: Verdict
    machine: Machine
    seconds: float = Field(ge=0, description="the whole check, data and measurement included")
    date: str
    version: str

    @model_validator(mode="after")
    def _verdict_follows(self) -> Record:
        if self.verdict != self.findings.verdict:
            raise ValueError(f"the verdict is {self.verdict!r}, but the conditions say {self.findings.verdict!r}")
        return self


def checks() -> list[str]:
    """Names of the systems and methods whose claim can be checked: the files of this folder that define ``check``."""
    folder = [str(Path(__file__).parent)]
    names = [m.name.replace("_", "-") for m in pkgutil.iter_modules(folder) if m.name != "protocol"]
    return sorted(name for name in names if callable(getattr(_module(name), "check", None)))


def subject(name: str) -> System | Method:
    """Whose claim it is: the ``METHOD`` of the check of that name, else the system.

    >>> subject("sdar").title, subject("layer-skipping").title
    ('SDAR', 'Layer skipping')
    """
    from ..systems import find

    found: Method | None = getattr(_module(name), "METHOD", None)
    return found or find(name)


def reproduce(
    name: str,
    out: str | os.PathLike[str] = "results",
    seed: int = 0,
    say: Say | None = None,
    docs: str | os.PathLike[str] | None = "docs/claims.md",
) -> Record:
    """Run a check, keep the record as ``out/NAME.json``, and render the board of all records anew.

    Args:
        out: the folder of the records; the board goes there as ``board.html``.
        seed: given to the check.
        say: what is told of the progress goes there; by default to stderr.
        docs: the board as a page of the documentation, written where that page exists already.
    Raises ``SettingError`` for a name without a check, and ``DataError`` where the record cannot be written.
    """
    from ..report.board import render
    from ..report.files import write_whole
    from ..systems import systems

    if name not in checks():
        own = f"; write claims/{name.replace('-', '_')}.py" if name in systems() else ""
        raise SettingError(f"{name!r} has no claim check; those that have one: {', '.join(checks()) or 'none'}{own}")
    about = subject(name)
    if about.claim is None:
        raise SettingError(f"system {name!r} carries no claim; add one to systems/{name.replace('-', '_')}.py")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)  # refused before the work, not after it
    except OSError as error:
        raise DataError(f"{folder} cannot be made ({error.strerror}); pass another folder") from None
    began = time.monotonic()
    findings = _module(name).check(say or _say, seed)
    record = Record(
        system=name,
        title=about.title,
        paper=about.paper,
        claim=about.claim.paper,
        reproduced_if=about.claim.reproduced_if,
        findings=findings,
        verdict=findings.verdict,
        machine=Machine.here(),
        seconds=round(time.monotonic() - began, 1),
        date=datetime.now(UTC).date().isoformat(),
        version=_version(),
    )
    write_whole(folder / f"{name}.json", json.dumps(record.model_dump(), indent=1, ensure_ascii=False) + "\n")
    render(folder, docs)
    return record


def read_records(folder: str | os.PathLike[str]) -> list[Record]:
    """All records of a folder, by name of the system. ``DataError`` names a file that is none."""
    records = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            records.append(Record.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise DataError(
                f"{path} is no record of a claim ({place}: {first['msg'].lower()}); run the check again or remove it"
            ) from None
    return records


def _module(name: str) -> Any:
    return importlib.import_module(f"{__package__}.{name.replace('-', '_')}")


def _say(text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False).print(Text.assemble(("▸ ", "bold cyan"), text))


def _cpu() -> str:
    """The processor's name, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _version() -> str:
    """The version, and the commit where the code lies in a git checkout (``+`` when it was changed since)."""
    here = Path(__file__).parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__} ({found})" if found else __version__
