"""What every test may rely on: a quiet, offline process of few threads, and no GPU where there is none.

No seed is set here: a test that draws random numbers names its own generator.
"""

from __future__ import annotations

import os

import pytest

# Before anything imports torch. The models of the tests are tiny: more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test never depends on the network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``cuda`` where there is no CUDA device; torch is imported only if there are any."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
