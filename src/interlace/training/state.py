"""What a run leaves on disk, so that it can be killed at any moment and resumed with the same result.

A checkpoint is a directory of safetensors files and one JSON file, written under a hidden name and renamed when it is
complete; so any directory with a final name is whole. Everything else of a step (rows, noise) is a function of the
seed and the step's number, so nothing else needs saving::

    step-00000500/
      model.safetensors      weights, under the parameters' names
      average.safetensors    averaged weights, if the run keeps them
      optimizer.safetensors  the optimizer's tensors of every parameter: "name|exp_avg", "name|step", ...
      state.json             step, seconds, settings; size and checksum of the other files
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import CheckpointError
from .parallel import cut, from_first, on_first, whole

__all__ = [
    "Learning",
    "Tensors",
    "cannot_write",
    "latest",
    "load_latest",
    "load_state",
    "resume",
    "save_state",
    "sync",
    "write_text",
]

Tensors = dict[str, dict[str, Tensor]]
"""Tensors by name, in groups: model, average, optimizer."""


class Learning(NamedTuple):
    """All tensors that steps change: parameters by name, their running average (or nothing), the optimizers' state."""

    parameters: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizers: list[torch.optim.Optimizer]

    def tensors(self) -> Tensors:
        """Whole tensors on the CPU, to be saved; all processes must take part."""
        groups: Tensors = {"model": {n: whole(p) for n, p in self.parameters.items()}}
        if self.average:
            groups["average"] = {n: whole(p) for n, p in self.average.items()}
        groups["optimizer"] = {}
        for optimizer, names in self._named():
            for index, values in optimizer.state_dict()["state"].items():
                groups["optimizer"] |= {f"{names[index]}|{key}": whole(v) for key, v in values.items()}
        return groups

    def restore(self, tensors: Tensors | None, accelerator: Any) -> None:
        """The inverse, in place; only the first process needs to have the tensors."""
        states: dict[str, dict[str, Tensor]] = {}
        for group, key, value in from_first(tensors, accelerator):
            name, _, part = key.rpartition("|") if group == "optimizer" else (key, "", "")
            like = self.parameters.get(name)
            if like is None:
                continue  # another name of a tied weight
            value = cut(value, like) if value.shape == like.shape else value
            if group == "optimizer":
                states.setdefault(name, {})[part] = value.clone()  # the loaded one may be a view of the file
            else:
                with torch.no_grad():
                    (self.parameters if group == "model" else self.average)[name].copy_(value)
        for optimizer, names in self._named():
            state = {index: states[name] for index, name in enumerate(names) if name in states}
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def fits(self, tensors: Tensors) -> str | None:
        """Why the tensors belong to another network or optimizer, or None."""
        for group, expected in (("model", self.parameters), ("average", self.average)):
            for name, value in expected.items():
                found = tensors.get(group, {}).get(name)
                if found is None:
                    return f"{group} has no {name}"
                if found.shape != value.shape:
                    return f"{name} is {list(found.shape)}, here {list(value.shape)}"
        known = {name: optimizer for optimizer, names in self._named() for name in names}
        for key, value in tensors.get("optimizer", {}).items():
            name, _, part = key.rpartition("|")
            if name not in known or (value.dim() and value.shape != self.parameters[name].shape):
                return f"the optimizer's {part} of {name} has no place here"
        return None

    def _named(self) -> Iterable[tuple[torch.optim.Optimizer, list[str]]]:
        """Every optimizer, with the names of its parameters in its own order."""
        names = {id(p): n for n, p in self.parameters.items()}
        for optimizer in self.optimizers:
            yield optimizer, [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def resume(directory: Path, learning: Learning, accelerator: Any) -> dict[str, Any]:
    """Restore the newest readable checkpoint and return its facts; none: an empty dict.

    Raises ``CheckpointError`` if there are checkpoints and none can be read, or if they are of another network.
    """
    if accelerator.is_main_process:
        _tidy(directory)
    tensors, facts = (load_latest(directory) if accelerator.is_main_process else None) or (None, {})
    if tensors is not None and (why := learning.fits(tensors)):
        raise CheckpointError(f"{directory} belongs to another network ({why}); pass another --out")
    facts = on_first(facts, accelerator)
    if facts:
        learning.restore(tensors, accelerator)
    return facts


def save_state(directory: Path, step: int, tensors: Tensors, facts: Mapping[str, Any], keep: int) -> Path:
    """Write ``step-NNNNNNNN/``, then drop all but the newest ``keep`` checkpoints up to this step.

    Raises ``CheckpointError`` when a weight is not finite, and when the disk is full or not writable; earlier
    checkpoints stay as they are, and nothing of the new one is left.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    for group in ("model", "average"):
        for name, value in tensors.get(group, {}).items():
            if not torch.isfinite(value).all():
                raise CheckpointError(
                    f"{name} holds NaN or Inf after step {step}, which is not saved; lower learning_rate or clip and "
                    "start again with another --out"
                )
    target = directory / f"step-{step:08d}"
    partial = directory / f".{target.name}.partial"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _tidy(directory)
        partial.mkdir()
        for name, values in tensors.items():
            save_file({k: v.contiguous() for k, v in values.items()}, partial / f"{name}.safetensors")
        files = {file.name: _sum(file) for file in sorted(partial.iterdir())}
        write_text(partial / "state.json", json.dumps({"step": step, **facts, "files": files}, indent=1))
        for path in (*partial.iterdir(), partial):
            sync(path)
        _drop(target)
        partial.rename(target)
        sync(directory)
    except (OSError, SafetensorError) as error:
        raise cannot_write(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    older = [path for path in _saved(directory) if path.name <= target.name][keep:]
    newer = [path for path in _saved(directory) if path.name > target.name]  # unreadable, or it had been resumed from
    for path in older + newer:
        _drop(path)
    return target


def latest(directory: Path) -> Path | None:
    """The newest checkpoint, by its name; whether it is readable is not looked at."""
    return next((path for path in _saved(directory) if (path / "state.json").is_file()), None)


def load_latest(directory: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """Tensors and facts of the newest readable checkpoint; None if there is no checkpoint at all.

    Warns of every damaged one that is passed over. Raises ``CheckpointError`` if all are damaged.
    """
    first: CheckpointError | None = None
    for path in _saved(directory):
        try:
            loaded = load_state(path)
        except CheckpointError as error:
            first = first or error
            warnings.warn(f"{error}; going back to the checkpoint before it", stacklevel=2)
        else:
            return loaded
    if first is not None:
        raise CheckpointError(f"{first}, and no other one is readable; remove {directory} to start from the beginning")
    return None


def load_state(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and facts of a checkpoint. Raises ``CheckpointError`` naming the damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / "state.json"
    try:
        facts = json.loads(file.read_text())
        int(facts["step"]), float(facts["seconds"])
        for name, made in facts.get("files", {}).items():
            file = path / name
            if _sum(file) != made:
                raise ValueError("it is not what was written")
        tensors = {}
        for name in ("model", "optimizer", "average"):
            file = path / f"{name}.safetensors"
            if name != "average" or file.exists():
                tensors[name] = load_file(file)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise CheckpointError(f"{file} is damaged ({why})") from error
    return tensors, facts


def write_text(path: Path, text: str) -> None:
    """Write a small file as a whole: a reader finds the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text)
        sync(partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> CheckpointError:
    """The one-line error of a write that failed."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    why, remedy = ("the disk is full", "free some space") if full else (str(error), "make it writable")
    return CheckpointError(f"cannot write {path}: {why}; {remedy} and start again with the same --out to resume")


def _saved(directory: Path) -> list[Path]:
    """Checkpoints, the newest first."""
    return sorted(directory.glob("step-*"), reverse=True)


def _sum(file: Path) -> list[int]:
    """Size and CRC-32 of a file."""
    size = check = 0
    with open(file, "rb") as handle:
        while chunk := handle.read(1 << 24):
            size, check = size + len(chunk), zlib.crc32(chunk, check)
    return [size, check]


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tidy(directory: Path) -> None:
    """Remove what a run left that was killed while it wrote or removed a checkpoint."""
    for left in directory.glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


def _drop(path: Path) -> None:
    """Remove a checkpoint, so that it is never seen in part."""
    if path.exists():
        hidden = path.with_name(f".{path.name}.dropped")
        shutil.rmtree(hidden, ignore_errors=True)
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
