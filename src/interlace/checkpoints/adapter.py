"""Adapters: folders that hold what differs from a base, in the format of PEFT.

adapter_config.json says which base (a folder or a Hugging Face name) and which adapters, adapter_model.safetensors
holds them under the names of the published network. An adapter that was made here also has the tokenizer and, as
adapted_config.json, the config.json of the model that it makes of its base, since that may be another system, with a
mask token. (A config.json itself would make ``transformers`` look for a whole model.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..nn import Transformer
from . import weights
from .directory import replacing
from .fields import Fields, read_json
from .format import (
    ADAPTER,
    Checkpoint,
    Description,
    Family,
    Summary,
    contents,
    describe,
    families,
    load,
    ours,
    skeleton,
    summary,
)

__all__ = ["PREFIX", "fingerprint", "load_adapter", "merge", "save_adapter", "summary_of_adapter"]

CONFIG, WEIGHTS, ADAPTED = ADAPTER
T = TypeVar("T")
PREFIX = "base_model.model."
"""Of every tensor's name, before the published one."""


def fingerprint(network: Transformer) -> str:
    """What tells a base from another one: some values of every parameter, rounded to bfloat16.

    It is the same whether the weights were read as float32 or as bfloat16.
    """
    found = blake2b(digest_size=8)
    for name, weight in network.named_parameters():
        flat = weight.detach().flatten()
        some = flat[:: max(1, flat.numel() // 64)].to("cpu", torch.bfloat16)
        found.update(name.encode() + some.view(torch.int16).numpy().tobytes())
    return found.hexdigest()


def load_adapter(
    directory: Path, dtype: str | torch.dtype | None, device: str | torch.device, check_finite: bool
) -> Checkpoint:
    """The base of an adapter with the adapter merged into its weights.

    Raises ``CheckpointError`` for an adapter of another kind than LoRA, a base that is not there or is not the one that
    the adapter was made for, and for adapters that do not fit its matrices.
    """
    config, source = _config(directory)
    # in the dtype in which it was learnt, so that it is the model that was merged then
    kept = _dtype(directory) if dtype is None else dtype
    base = _of_base(directory, source, lambda: load(source, kept, device, check_finite))
    tensors, made_for = _tensors(directory)
    parameter = next(base.network.parameters())
    if parameter.device.type != "meta":
        # float16 rounds otherwise than bfloat16 does
        sure = parameter.dtype != torch.float16
        if made_for is not None and sure and made_for != fingerprint(base.network):
            raise CheckpointError(
                f"{directory} was made for another model than {source} is now; correct base_model_name_or_path in "
                f"{CONFIG}"
            )
        merge(base.network, base.family, config, tensors, str(directory))
        if check_finite and not all(map(weights.finite, base.network.parameters())):
            raise CheckpointError(f"{directory}: the adapter makes weights NaN or Inf; use an undamaged copy")
    said = _said(directory, source, base.network)
    return replace(base, source=directory) if said is None else said.checkpoint(base.network)


def summary_of_adapter(directory: Path) -> Summary:
    """What ``load_adapter`` would make, from the headers of the files of both."""
    config, source = _config(directory)
    base = _of_base(directory, source, lambda: summary(source))
    tensors, _ = _tensors(directory)
    about = f"adapter of rank {config.get('r')}, {sum(t.numel() for t in tensors.values()):,} parameters, for {source}"
    size = base.bytes + sum(t.nbytes for t in tensors.values())
    dtype = _dtype(directory) or base.dtype
    found = replace(base, adapter=about, bytes=size, files=base.files + 1, dtype=dtype)
    said = _said(directory, source, skeleton(base.config))
    if said is None:
        return found
    return replace(
        found,
        family=said.family.name,
        model_type=said.model_type,
        block_size=said.block_size,
        mask_token_id=said.mask_token_id,
        tokenizer=said.tokenizer is not None,
    )


def _config(directory: Path) -> tuple[dict[str, Any], str]:
    """The adapter's settings, and its base."""
    about = Fields(read_json(directory / CONFIG), str(directory / CONFIG))
    kind, source = about.take("peft_type", str), about.take("base_model_name_or_path", str)
    if kind != "LORA":
        raise CheckpointError(f"{about.origin}: adapters of the kind {kind} are not supported; only LORA is")
    if Path(source).expanduser().is_dir() and Path(source).expanduser().resolve() == directory.resolve():
        raise CheckpointError(f"{about.origin}: the adapter names itself as its base; correct base_model_name_or_path")
    return dict(about), source


def _dtype(directory: Path) -> str | None:
    """The dtype in which it was learnt, if the folder says so."""
    said = read_json(directory / ADAPTED, optional=True).get("torch_dtype")
    known = {str(dtype).removeprefix("torch.") for dtype in weights.DTYPES.values()}
    return said if isinstance(said, str) and said in known else None


def _of_base(directory: Path, source: str, read: Callable[[], T]) -> T:
    """What is read of the base; its errors say whose base it is."""
    try:
        return read()
    except CheckpointError as error:
        cause, _, remedy = str(error).partition("; ")
        raise CheckpointError(
            f"the base of the adapter {directory} cannot be read ({cause}); {remedy}, or correct "
            f"base_model_name_or_path in {CONFIG}"
        ) from None


def _said(directory: Path, source: str, network: Transformer) -> Description | None:
    """What the folder says of the model that the adapter makes, if it does."""
    if not (directory / ADAPTED).is_file():
        return None
    said = describe(directory, directory.name, lambda: len(dict(network.named_parameters())), ADAPTED)
    if said.config != network.config:
        raise CheckpointError(
            f"{directory / ADAPTED} describes another network than the base {source}; correct the one that is wrong"
        )
    return said


def _tensors(directory: Path) -> tuple[dict[str, Tensor], str | None]:
    """What was learnt, and for which base, if the file says so."""
    from safetensors import SafetensorError, safe_open

    file = directory / WEIGHTS
    if not file.is_file():
        raise CheckpointError(f"{directory} holds no {WEIGHTS}; use an adapter that is stored as safetensors")
    try:
        with safe_open(file, framework="pt") as stored:
            made_for = (stored.metadata() or {}).get("base")
            return {name: stored.get_tensor(name) for name in stored.keys()}, made_for  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged or cut short ({error}); download or copy it again") from None


def merge(
    network: Transformer, family: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], origin: str
) -> None:
    """Merge adapters into a network, in place.

    PEFT itself does it, on modules that bear the published names and share the network's memory.

    Args:
        family: whose names the adapters bear. config: arguments of ``peft.LoraConfig``. tensors: as in PEFT's files.
        origin: where they come from, for messages.

    Raises ``CheckpointError`` for adapters that have no place in the network, or are of other shapes.
    """
    try:
        import peft
    except ImportError:
        raise CheckpointError(f"{origin} holds adapters, which need peft; pip install 'interlace[peft]'") from None
    published = _published(network, families()[family])
    known = peft.LoraConfig.__dataclass_fields__
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            settings = peft.LoraConfig(**{name: value for name, value in config.items() if name in known})
            model = peft.PeftModel(published, settings)
            left = peft.set_peft_model_state_dict(model, dict(tensors))
            lacking = [name for name in left.missing_keys if ".lora_" in name]
            if left.unexpected_keys:
                raise ValueError(f"no place for {left.unexpected_keys[0]}")
            if lacking:
                raise ValueError(f"{lacking[0]} is missing")
            embed = published.get_submodule(_name(families()[family], network, "embed.weight"))
            if network.config.tied and not isinstance(embed, nn.Embedding) and not hasattr(embed, "token_adapter"):
                raise ValueError("the embedding is the head too, only rows of it can differ")
            plain = model.merge_and_unload()
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        cause = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{origin}: the adapters do not fit the model ({cause}); use those that were made for it"
        ) from None
    with torch.no_grad():
        parameters = dict(network.named_parameters())
        for piece in families()[family].pieces(network.config):
            module, _, kind = piece.published.rpartition(".")
            found = getattr(_find(plain, module), kind, None)
            place = parameters[piece.ours][piece.index]
            if found is not None and found.data_ptr() != place.data_ptr():
                place.copy_(found)


def _published(network: Transformer, family: Family) -> nn.Module:
    """The linear maps and the embedding of a network as modules with their published names, in the same memory."""
    parameters = dict(network.named_parameters())
    root = nn.Module()
    for piece in family.pieces(network.config):
        module, _, kind = piece.published.rpartition(".")
        place = parameters[piece.ours].detach()[piece.index]
        if kind == "weight" and place.dim() == 2:
            rows, channels = place.shape
            made: nn.Module
            if piece.ours == "embed.weight":
                made = nn.Embedding(rows, channels, device="meta")
            else:
                made = nn.Linear(channels, rows, bias=False, device="meta")
            made.weight = nn.Parameter(place, requires_grad=False)
            _place(root, module, made)
    for piece in family.pieces(network.config):
        module, _, kind = piece.published.rpartition(".")
        linear = _find(root, module)
        if kind == "bias" and isinstance(linear, nn.Linear):
            linear.bias = nn.Parameter(parameters[piece.ours].detach()[piece.index], requires_grad=False)
    return root


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    *above, last = name.split(".")
    for part in above:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root._modules[part]  # type: ignore[assignment]
    root.add_module(last, module)


def _find(root: nn.Module, name: str) -> nn.Module | None:
    for part in name.split("."):
        found = root._modules.get(part)
        if found is None:
            return None
        root = found
    return root


def _name(family: Family, network: Transformer, ours: str) -> str:
    """The published module of a parameter of ours."""
    pieces = family.pieces(network.config)
    return next(piece.published.rpartition(".")[0] for piece in pieces if piece.ours == ours)


def save_adapter(
    checkpoint: Checkpoint,
    path: str | Path,
    base: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    made_for: str,
) -> Path:
    """Write an adapter folder, in one piece or not at all.

    Args:
        checkpoint: the model that the adapter makes of its base; its config.json and its tokenizer are written.
        base: the folder that the base was read from. config: arguments of ``peft.LoraConfig``. made_for: the base's
            ``fingerprint``.

    Raises ``CheckpointError`` for values that are NaN or Inf, and for everything that the disk refuses.
    """
    import peft
    from safetensors.torch import save_file

    bad = next((name for name, value in tensors.items() if not weights.finite(value)), None)
    if bad is not None:
        raise CheckpointError(f"adapter {bad} holds NaN or Inf; nothing was saved: go back to an earlier state")
    written = contents(checkpoint, next(checkpoint.network.parameters()).dtype)
    written[ADAPTED] = written.pop("config.json")
    size = sum(map(len, written.values())) + sum(value.nbytes for value in tensors.values())
    settings = peft.LoraConfig(**config, base_model_name_or_path=_address(base))
    target = Path(path)
    about = {"format": "pt", "base": made_for}
    with replacing(target, size, ours) as work:
        save_file({name: value.contiguous() for name, value in tensors.items()}, work / WEIGHTS, about)
        settings.save_pretrained(str(work))
        for name, text in written.items():
            (work / name).write_bytes(text)
    return target


def _address(base: Path) -> str:
    """Where a base is found again: its Hugging Face name, or its folder."""
    if base.absolute().parent.name == "snapshots" and base.absolute().parents[1].name.startswith("models--"):
        return base.absolute().parents[1].name.removeprefix("models--").replace("--", "/", 1)
    return str(base.expanduser().resolve())
