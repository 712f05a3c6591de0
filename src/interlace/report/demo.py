"""What a quickstart measured, and how that is said in JSON. How it is shown is in ``demo_page``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..claims.protocol import Machine
    from ..evaluation import Fillings, Likelihood, Point
    from ..worlds.verifiers import InfillCase
    from .trace import Trace

__all__ = ["Adaptation", "Contestant", "Demo"]


@dataclass
class Contestant:
    """A model and all that was measured of it.

    name: what it is called throughout (base, just adapted, twin). points: one for every threshold; for the base, one.
    fillings: at the threshold of ``Demo``. traces: of the prompts that are shown. style: its colour.
    """

    name: str
    about: str
    style: int
    system: str
    parameters: int
    block_size: int
    likelihood: Likelihood
    points: list[Point]
    fillings: Fillings
    traces: list[Trace]

    def at(self, threshold: float) -> Point:
        """The point at that threshold; that of the base, which has none, at any."""
        return next(point for point in self.points if point.threshold in (None, threshold))


@dataclass
class Adaptation:
    """The first act: every step's loss, and what the probes measured on the way.

    steps: of training: {"seconds", "step", "loss", "tokens_per_second"}. probes: {"seconds", "step", "bound",
    "standard_error", "tokens_per_forward"}, the first of them before the first step. probe: how much a probe measures:
    pieces and draws for the bound, prompts and their length for the tokens per forward.
    """

    seconds: float
    tokens: int
    settings: dict[str, Any]
    data: dict[str, Any]
    steps: list[dict[str, float]]
    probes: list[dict[str, float]]
    probe: dict[str, int]


@dataclass
class Demo:
    """All of a quickstart."""

    contestants: list[Contestant]
    adaptation: Adaptation
    cases: Sequence[InfillCase]
    threshold: float
    seed: int
    prompts: int
    length: int
    machine: Machine
    version: str
    date: str
    seconds: dict[str, float] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """Every number of the run, and how it was measured."""
        return {
            "version": self.version,
            "date": self.date,
            "machine": self.machine.model_dump(),
            "seed": self.seed,
            "seconds": self.seconds,
            "adaptation": asdict(self.adaptation),
            "measured": {
                "held_out": "files of the standard library that no training has seen",
                "prompts": self.prompts,
                "length": self.length,
                "timed_alone": self.contestants[0].points[0].completions.timed,
                "dtype": "float32",
                "threshold": self.threshold,
                "holes": len(self.cases),
            },
            "models": {contestant.name: self._model(contestant) for contestant in self.contestants},
        }

    def _model(self, contestant: Contestant) -> dict[str, Any]:
        points = [
            {
                "threshold": p.threshold,
                "parse_rate": p.parse_rate,
                "parse_interval": p.completions.parse_interval,
                "tokens": p.completions.tokens,
                "forwards": p.completions.forwards,
                "tokens_per_forward": p.tokens_per_forward,
                "tokens_per_second": p.tokens_per_second,
                "seconds": p.completions.seconds,
                "settings": p.completions.settings,
            }
            for p in contestant.points
        ]
        fillings = contestant.fillings
        return {
            "about": contestant.about,
            "system": contestant.system,
            "parameters": contestant.parameters,
            "block_size": contestant.block_size,
            "likelihood": asdict(contestant.likelihood),
            "completion": points,
            "infilling": {
                "sees": fillings.sees,
                "holes": len(fillings.records),
                "exact_match": fillings.exact_match(),
                "exact_interval": fillings.exact_interval(),
                **{f"exact_match_{kind}": fillings.exact_match(kind) for kind in ("line", "body")},
                "token_accuracy": fillings.accuracy(),
                "tokens_per_forward": fillings.tokens_per_forward,
            },
            "completions": [
                {"name": r.name, "prompt": r.prompt, "text": r.text, "parses": r.parses, "forwards": r.forwards}
                for r in contestant.at(self.threshold).completions.records
            ],
        }
