"""What a run leaves on disk, so that it can be killed at any moment and resumed with the same result.

A checkpoint is a directory of safetensors files and one JSON file, written under a temporary name and renamed when it
is complete; so any directory with a final name is whole. Everything else of a step (rows, noise) is a function of the
seed and the step's number, so nothing else needs saving.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError

__all__ = ["full_state", "latest", "load_state", "restore_state", "save_state"]


def full_state(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and optimizer state under the parameters' names, gathered from all processes (FSDP2 or not)."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, state = get_state_dict(model, optimizers, options=options)
    flat: dict[str, Tensor] = {}
    for name, values in state["state"].items():
        for key, value in values.items():  # type: ignore[union-attr]
            flat[f"{name}|{key}"] = value if isinstance(value, Tensor) else torch.tensor(float(value))
    return weights, flat


def restore_state(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], weights: dict[str, Tensor], flat: dict[str, Tensor]
) -> None:
    """The inverse of ``full_state``, in place."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    _, state = get_state_dict(model, optimizers, options=options)
    filled: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        name, _, part = key.rpartition("|")
        filled.setdefault(name, {})[part] = value
    set_state_dict(
        model,
        optimizers,
        model_state_dict=weights,
        optim_state_dict={"state": filled, "param_groups": state["param_groups"]},
        options=StateDictOptions(full_state_dict=True),
    )


def save_state(directory: Path, step: int, tensors: dict[str, dict[str, Tensor]], facts: dict[str, Any], keep: int) -> Path:
    """Write ``step-NNNNNNNN/`` with one safetensors file per entry of ``tensors``; drop all but the newest ``keep``.

    Raises ``CheckpointError`` when the disk is full or not writable; earlier checkpoints stay as they are.
    """
    from safetensors.torch import save_file

    target = directory / f"step-{step:08d}"
    partial = directory / f".{target.name}.partial"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, values in tensors.items():
            save_file({k: v.detach().contiguous().clone() for k, v in values.items()}, partial / f"{name}.safetensors")
        (partial / "state.json").write_text(json.dumps({"step": step, **facts}, indent=1))
        for file in partial.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) or "No space left" in str(error) or "I/O error" in str(error):
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            why = "the disk is full" if full else str(error)
            raise CheckpointError(
                f"cannot save {target}: {why}; free some space and start again with the same --out to resume"
            ) from error
        raise
    for old in sorted(directory.glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def latest(directory: Path) -> Path | None:
    """The newest complete checkpoint."""
    found = sorted(p for p in directory.glob("step-*") if (p / "state.json").is_file())
    return found[-1] if found else None


def load_state(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Tensors and facts of a checkpoint. Raises ``CheckpointError`` naming the damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            tensors[file.stem] = load_file(file)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file} is damaged ({error}); remove {path} to resume from an earlier checkpoint"
            ) from error
    return tensors, json.loads((path / "state.json").read_text())
