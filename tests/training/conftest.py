"""The tiny run, for every test of this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

collect_ignore = ["tiny.py", "crashing.py", "stopping.py"]  # what tests start as scripts


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """``tiny.py`` as a module."""
    name = "tests_training_tiny"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("tiny.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
