"""Safetensors files: what is in them, reading tensor by tensor, writing as a stream. Nothing is ever unpickled.

A file is 8 bytes (the length of the header), the header (JSON: name -> dtype, shape, place), and the tensors one
after the other. It is written as such here: one tensor at a time is made contiguous and cast, so that saving needs no
second copy of the network.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from .fields import read_json

__all__ = ["Stored", "common_dtype", "open_weights", "read_tensors", "to_dtype", "write_weights"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


class Stored(NamedTuple):
    """Where a tensor lies: its file, shape, and dtype in the spelling of safetensors."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def to_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """``"bfloat16"``, ``"bf16"``, ``torch.bfloat16`` -> ``torch.bfloat16``; only floating dtypes of 16 bits or more."""
    short = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "fp64": "float64"}
    found = dtype
    if isinstance(dtype, str):
        name = dtype.removeprefix("torch.").lower()
        found = getattr(torch, short.get(name, name), dtype)
    if not isinstance(found, torch.dtype) or found not in _CODES:
        raise CheckpointError(f"unknown dtype {dtype!r}; pass one of bfloat16, float16, float32, float64")
    return found


def open_weights(directory: Path) -> dict[str, Stored]:
    """Every tensor of a checkpoint folder, from the headers alone.

    Raises ``CheckpointError`` for a folder without safetensors, a missing or damaged file, and an index that names a
    tensor which its file lacks.
    """
    index = directory / INDEX
    if (directory / SINGLE).is_file():
        return _header(directory / SINGLE)
    if not index.is_file():
        pickled = sorted(f.name for f in directory.iterdir() if f.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickled:
            raise CheckpointError(
                f"{directory} holds pickled weights only ({pickled[0]}), which can run code when they are opened; "
                "convert them to safetensors where you trust them (transformers: save_pretrained)"
            )
        raise CheckpointError(f"{directory} holds no {SINGLE} and no {INDEX}; download the weights as well")
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        raise CheckpointError(f"{index} has no 'weight_map' of tensor names to file names; download it again")
    stored: dict[str, Stored] = {}
    for name in sorted(set(placed.values())):
        file = directory / name
        if file.resolve().parent != directory.resolve() and not file.is_symlink():
            raise CheckpointError(f"{index} points outside its folder ({name!r}); download it again")
        if not file.is_file():
            raise CheckpointError(f"{file} is missing, although {INDEX} names it; download it")
        stored.update(_header(file))
    for tensor, name in placed.items():
        if tensor not in stored or stored[tensor].file.name != name:
            raise CheckpointError(f"{INDEX} places tensor {tensor!r} in {name}, which lacks it; download both again")
    return stored


def _header(file: Path) -> dict[str, Stored]:
    try:
        with safe_open(file, framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a mapping)
            return {name: Stored(file, tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> CheckpointError:
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(f"{file} is damaged or cut short ({cause}); download or copy it again")


def common_dtype(stored: dict[str, Stored]) -> torch.dtype:
    """The dtype that holds most of the values; a ``CheckpointError`` names a tensor that is not floating."""
    count: Counter[str] = Counter()
    for name, tensor in stored.items():
        if tensor.dtype not in DTYPES:
            raise CheckpointError(
                f"{tensor.file}: tensor {name!r} is stored as {tensor.dtype}, which is a quantised format; "
                "use the checkpoint in bfloat16, float16 or float32"
            )
        count[tensor.dtype] += max(1, torch.Size(tensor.shape).numel())
    return DTYPES[count.most_common(1)[0][0]] if count else torch.float32


def read_tensors(stored: dict[str, Stored], names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """The named tensors, file by file, each mapped from the disk and not kept."""
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(stored[name].file, []).append(name)
    for file, inside in by_file.items():
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in inside:
                    yield name, tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _damaged(file, error) from None


def _size(tensor: Tensor, dtype: torch.dtype | None) -> int:
    return tensor.numel() * (dtype or tensor.dtype).itemsize


def write_weights(
    directory: Path,
    tensors: Sequence[tuple[str, Tensor]],
    dtype: torch.dtype | None,
    shard_bytes: int,
    check_finite: bool,
) -> None:
    """Write ``model.safetensors``, or shards of at most ``shard_bytes`` (one tensor at least) and their index.

    Raises ``CheckpointError`` for NaN or Inf, ``OSError`` for what the disk refuses.
    """
    shards: list[list[tuple[str, Tensor]]] = [[]]
    filled = 0
    for name, tensor in tensors:
        size = _size(tensor, dtype)
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append((name, tensor))
        filled += size
    if len(shards) == 1:
        _write(directory / SINGLE, shards[0], dtype, check_finite)
        return
    placed = {}
    for number, shard in enumerate(shards, 1):
        file = directory / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write(file, shard, dtype, check_finite)
        placed.update({name: file.name for name, _ in shard})
    total = sum(_size(tensor, dtype) for _, tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write(file: Path, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None, check_finite: bool) -> None:
    tensors = list(tensors)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors:
        start, end = end, end + _size(tensor, dtype)
        code = _CODES[dtype or tensor.dtype]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(len(text).to_bytes(8, "little"))
        out.write(text)
        for name, tensor in tensors:
            cast = tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()
            if check_finite and not finite(cast):
                cause = "holds NaN or Inf" if not finite(tensor.detach()) else f"does not fit into {cast.dtype}"
                raise CheckpointError(f"weight {name} {cause}; nothing was saved: go back to an earlier state")
            if cast.numel():
                out.write(cast.view(-1).view(torch.uint8).numpy().data)


def finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or Inf: both show in the extremes, which need no temporary tensor."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) & torch.isfinite(high))
