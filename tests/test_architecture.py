"""Imports go downward only: the floors of the house, read from the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import interlace

ROOT = Path(interlace.__file__).parent
FLOORS = [
    {"compiled", "errors", "hardware"},
    {"discovery"},
    {"grid", "jsonl", "sampling"},
    {
        "arrangements",
        "attention",
        "constraints",
        "layouts",
        "lookahead",
        "masking",
        "paces",
        "schedules",
        "reveal",
        "solvers",
        "tasks",
        "processes",
        "memory",
        "worlds",
    },
    {"nn"},
    {"guidance", "generation", "checkpoints", "training"},
    {"systems"},
    {"lora", "model", "quantization"},
    {"writing"},
    {"claims", "clips", "continuations", "evaluation", "recipes", "reinforcement", "report"},
    {"conversions", "engine"},
    {"serve"},
    {"lm_eval", "quickstart"},
    {"cli"},
    {"__main__"},
]
FLOOR = {part: number for number, floor in enumerate(FLOORS) for part in floor}
PARTS = FLOORS[3] | FLOORS[5]
"""Parts that know nothing of their siblings."""
ARGUMENTS = {
    ("processes", "reveal"): "a rule is an argument of a masked process",
    ("processes", "paces"): "a pace is an argument of a masked process",
    ("processes", "constraints"): "a constraint is an argument of a constrained process",
    ("processes", "solvers"): "a solver is an argument of a continuous process",
    ("layouts", "attention"): "a layout tags its tokens for the patterns",
    ("lookahead", "attention"): "a lookahead tags its masks for the patterns",
}
"""Sideways imports that the design declares."""
FREE = {"__version__"}


def imports(tree: ast.AST, package: tuple[str, ...], inside: bool) -> Iterator[tuple[str, ...]]:
    """Modules that the code imports, as tuples; without those for the type checker, and with those of functions if
    ``inside``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from imports(ast.Module([other], []), package, inside)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = base + tuple(node.module.split(".") if node.module else ())
            yield from ((*module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif inside or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, package, inside)


def edges(inside: bool = True) -> set[tuple[str, str, str]]:
    """(importing part, imported part, file) for every import of one of our parts by another."""
    found = set()
    for file in ROOT.rglob("*.py"):
        place = file.relative_to(ROOT).with_suffix("").parts
        if place == ("__init__",):
            continue  # its names are imported when they are first used
        package = ("interlace", *place[:-1])
        for module in imports(ast.parse(file.read_text()), package, inside):
            if module[0] == "interlace" and len(module) > 1 and module[1] not in {place[0], *FREE}:
                found.add((place[0], module[1], "/".join(place)))
    return found


def test_the_reader_sees_every_way_of_importing() -> None:
    code = """
from __future__ import annotations
from typing import TYPE_CHECKING
from .. import reveal
from ..nn.config import MoE
from . import sibling
import interlace.cli
if TYPE_CHECKING:
    from ..memory import Memory
else:
    from ..grid import Move
def later():
    from interlace.model import load
"""
    found = set(imports(ast.parse(code), ("interlace", "systems"), inside=True))
    assert {module[1] for module in found if module[0] == "interlace"} == {
        "reveal", "nn", "systems", "cli", "grid", "model",
    }  # fmt: skip
    outside = set(imports(ast.parse(code), ("interlace", "systems"), inside=False))
    assert found - outside == {("interlace", "model", "load")}


def test_every_part_has_a_floor() -> None:
    here = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert here - {"__init__"} == set(FLOOR), "give a new part its floor in FLOORS"


def test_nothing_imports_upward() -> None:
    upward = sorted(edge for edge in edges() if FLOOR[edge[0]] < FLOOR[edge[1]])
    assert not upward


def test_a_part_never_imports_a_sibling() -> None:
    sideways = {edge for edge in edges() if edge[0] in PARTS and FLOOR[edge[0]] == FLOOR[edge[1]]}
    assert sorted(edge for edge in sideways if edge[:2] not in ARGUMENTS) == []
    assert {edge[:2] for edge in sideways} == set(ARGUMENTS), "a declared import is not there any more"


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    every = list(edges(inside=False))
    below = {part: {to for frm, to, _ in every if frm == part} for part in FLOOR}
    while free := {part for part, needs in below.items() if not needs & set(below)}:
        below = {part: needs for part, needs in below.items() if part not in free}
    assert not below


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import interlace", ("torch", "numpy", "transformers", "pydantic")),
        ("import interlace.grid, interlace.schedules", ("torch",)),
        ("import interlace.generation, interlace.nn", ("transformers", "matplotlib", "accelerate")),
        ("import interlace; interlace.load('base')", ("transformers", "matplotlib", "accelerate", "sympy")),
    ],
)
def test_what_an_import_does_not_load(statement: str, absent: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print(*sorted(sys.modules.keys() & set({absent!r})))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
