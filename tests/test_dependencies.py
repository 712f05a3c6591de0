"""What pyproject.toml asks for has a floor and a ceiling, and the locked versions lie between them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def asked() -> Iterator[Requirement]:
    """Every requirement: of the build, of the package, of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for group in (project["build-system"]["requires"], project["project"]["dependencies"], *extras.values()):
        yield from map(Requirement, group)


LOCKED = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("one", list(asked()), ids=str)
def test_a_requirement_has_a_floor_and_the_next_major_version_as_its_ceiling(one: Requirement) -> None:
    bounds = {bound.operator: Version(bound.version) for bound in one.specifier}
    assert set(bounds) == {">=", "<"} and bounds[">="] < bounds["<"]
    locked = LOCKED.get(canonicalize_name(one.name))
    if locked is not None:
        assert locked in one.specifier and bounds["<"] == Version(str(locked.major + 1))


def test_all_that_the_package_needs_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {canonicalize_name(Requirement(one).name) for one in project["dependencies"]} <= set(LOCKED)
