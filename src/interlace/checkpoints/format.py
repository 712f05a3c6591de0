"""Reading and writing checkpoints: what every format shares.

A checkpoint folder is config.json, weights in safetensors, and tokenizer files. A *family* is one published format:
it translates config.json, and lists for every published tensor the piece of our parameter that it fills
(q, k and v are three pieces of ``qkv``). From that one list follow reading, writing, and every check.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..attention.positions import Rope
from ..discovery import modules
from ..errors import CheckpointError, InterlaceError, SettingError
from ..nn.config import TransformerConfig
from ..nn.transformer import Transformer
from . import tokens, weights
from .config_class import ConfigClass
from .directory import left_behind, replacing
from .fields import Fields, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Checkpoint", "Family", "Piece", "Summary", "expressible", "families", "inexpressible", "load", "save",
           "skeleton", "summary"]  # fmt: skip

# Tensors that old exports carry and that follow from the config.
_HARMLESS = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias)$")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapted_config.json")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "merges.txt", "tokenizer.model"]


@dataclass
class Checkpoint:
    """A network and everything that a published folder says about it.

    Attributes:
        network: the weights, in one dtype.
        tokenizer: a ``tokenizers.Tokenizer``, or None.
        family: the name of the format, as in ``families()``; change it to save in another one.
        block_size: tokens per block of a block-diffusion model, else None.
        mask_token_id: the id of the mask token, if there is one.
        stop_token_ids: ids that end a generation.
        extra: ``config`` and ``generation_config``: the fields that are not interpreted, kept for saving.
        tokenizer_files: the tokenizer's files as they were read; written back while ``tokenizer`` is the same.
        source: the folder that it was loaded from.

    >>> checkpoint = Checkpoint(Transformer(TransformerConfig(vocab_size=32)), family="qwen3")
    """

    network: Transformer
    tokenizer: Tokenizer | None = None
    family: str = "interlace"
    block_size: int | None = None
    mask_token_id: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    tokenizer_files: dict[str, bytes] = field(default_factory=dict, repr=False)
    source: Path | None = None

    @property
    def config(self) -> TransformerConfig:
        """The shape of the network."""
        return self.network.config


@dataclass(frozen=True, slots=True)
class Piece:
    """A published tensor, and the place in our parameter that it fills: ``parameter[index]``.

    >>> Piece("model.layers.0.mlp.up_proj.weight", "blocks.0.mlp.up.weight", (slice(768, 1536),))  # doctest: +SKIP
    """

    published: str
    ours: str
    index: tuple[int | slice, ...] = ()


class Family(Protocol):
    """A published format. A module of this package offers one by the name ``FAMILY``; nothing else lists it.

    name: what a user calls it. model_types: the values of ``model_type`` in config.json that it reads.
    masked: it generates by filling masks, so a mask token must be known; free_mask: its id where no file says.
    block_field: what config.json calls the block size. config_classes: by ``model_type``, the class that
    ``transformers`` opens config.json by, where it has none of its own.
    """

    @property
    def name(self) -> str: ...

    @property
    def model_types(self) -> Collection[str]: ...

    @property
    def masked(self) -> bool: ...

    @property
    def block_field(self) -> str: ...

    @property
    def free_mask(self) -> int | None: ...

    @property
    def config_classes(self) -> Mapping[str, ConfigClass]: ...

    def read_config(self, fields: Fields) -> TransformerConfig:
        """Take out of ``fields`` all that is understood; ``CheckpointError`` for what our network cannot do."""

    def write_config(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The fields of config.json that ``read_config`` reads. What cannot be said need not be refused here."""

    def pieces(self, config: TransformerConfig, stored: Collection[str] = ()) -> Iterable[Piece]:
        """Every tensor of the format. Of two published spellings, the one among ``stored``."""

    def aliases(self, config: TransformerConfig) -> Mapping[str, str]:
        """Tensors that may be stored a second time under another name: {second name: first name}."""

    def default_block_size(self, config: TransformerConfig, name: str) -> int | None:
        """The block size where config.json names none; ``name`` is that of the folder or repository."""

    def remarks(self, checkpoint: Checkpoint) -> list[str]:
        """What one must know who opens the written folder elsewhere, a line each."""


@functools.cache
def families() -> dict[str, Family]:
    """Every format by name, found in this package."""
    found: dict[str, Family] = {}
    package = __name__.rpartition(".")[0]
    for module in modules(package):
        family = getattr(module, "FAMILY", None)
        if family is not None:
            found[family.name] = family
    return dict(sorted(found.items()))


OTHERS = {
    "diffusion_gemma": "DiffusionGemma's own weights, of Gemma's network, are not read here; a Qwen or Llama model "
    "learns its way of writing text by interlace adapt --system diffusion-gemma"
}
"""Known formats that are not read, by ``model_type``: what can be done instead."""


def _family(given: Fields, model_type: str, directory: Path) -> Family:
    for family in families().values():
        if model_type in family.model_types:
            return family
    if model_type in OTHERS:
        raise CheckpointError(f"{given.origin}: {OTHERS[model_type]}")
    from .nearest import unknown

    raise unknown(given, model_type, directory)


@dataclass
class Description:
    """All that a checkpoint folder says but its weights, checked for consistency."""

    path: Path
    family: Family
    model_type: str
    config: TransformerConfig
    block_size: int | None
    mask_token_id: int | None
    stop: tuple[int, ...]
    bos: int | None
    pad: int | None
    extra: dict[str, Any]
    files: dict[str, bytes]
    tokenizer: Tokenizer | None
    skeleton: Transformer

    def checkpoint(self, network: Transformer) -> Checkpoint:
        """All of it, with these weights."""
        return Checkpoint(
            network=network,
            tokenizer=self.tokenizer,
            family=self.family.name,
            block_size=self.block_size,
            mask_token_id=self.mask_token_id,
            stop_token_ids=self.stop,
            bos_token_id=self.bos,
            pad_token_id=self.pad,
            extra=self.extra,
            tokenizer_files=self.files,
            source=self.path,
        )


@dataclass
class _Folder:
    """A checkpoint but the values of its weights: what it says, where every tensor lies, and which place it fills."""

    said: Description
    stored: dict[str, weights.Stored]
    pieces: dict[str, Piece]


def load(
    path: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    check_finite: bool = True,
) -> Checkpoint:
    """Read a checkpoint folder in any known format; every tensor goes from the file straight to its place.

    A folder that holds an adapter in PEFT's format is read as its base with the adapter merged (``adapter.py``). Code
    and pickles in the folder are ignored: nothing of a checkpoint is ever executed.

    Args:
        path: a folder, or the name of a Hugging Face repository such as ``"Qwen/Qwen3-0.6B"``, which is fetched.
        dtype: of the network; None keeps the one that is stored (if several are, the one of most values).
        device: where the weights go; "meta": nowhere, all but their values is read and checked.
        check_finite: refuse weights that are NaN or Inf.
    Raises ``CheckpointError``, in one line with the remedy, for whatever is missing, damaged or contradictory.

    >>> load("Qwen/Qwen3-0.6B", dtype="float32").family     # doctest: +SKIP
    'qwen3'
    """
    directory, name = _locate(path)
    if _is_adapter(directory):
        from .adapter import load_adapter

        return load_adapter(directory, dtype, device, check_finite)
    folder = _open(directory, name)
    network = folder.said.skeleton
    network.to(weights.common_dtype(folder.stored) if dtype is None else weights.to_dtype(dtype))
    if torch.device(device).type == "meta":
        return folder.said.checkpoint(network)
    _allocate(network, device)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for tensor_name, tensor in weights.read_tensors(folder.stored, folder.pieces):
            piece = folder.pieces[tensor_name]
            place = parameters[piece.ours][piece.index]
            place.copy_(tensor)
            if check_finite and not weights.finite(place):
                if weights.finite(tensor):
                    why = f"does not fit into {place.dtype}; load it as bfloat16 or float32"
                else:
                    why = "holds NaN or Inf; use an undamaged copy, or pass check_finite=False"
                raise CheckpointError(f"{folder.stored[tensor_name].file}: tensor {tensor_name} {why}")
    _check_aliases(folder)
    return folder.said.checkpoint(network)


def _check_aliases(folder: _Folder) -> None:
    for name, of in folder.said.family.aliases(folder.said.config).items():
        if name not in folder.stored:
            continue
        pair = dict(weights.read_tensors(folder.stored, [name, of]))
        if not torch.equal(pair[name], pair[of]):
            raise CheckpointError(
                f"config.json says that {name} is {of}, but two different ones are stored; "
                "set tie_word_embeddings to false to use both, or remove the wrong one"
            )


def _is_adapter(directory: Path) -> bool:
    """Whether a folder holds an adapter (``adapter.py``), and not a whole model."""
    whole = any((directory / name).is_file() for name in (weights.SINGLE, weights.INDEX))
    return (directory / ADAPTER[0]).is_file() and not whole


def _locate(path: str | Path) -> tuple[Path, str]:
    """The folder, and the name by which it is known."""
    directory = Path(path).expanduser()
    if directory.is_dir():
        resolved = directory.absolute()
        return directory, (resolved.parents[1].name if resolved.parent.name == "snapshots" else resolved.name)
    if directory.exists():
        raise CheckpointError(f"{path} is a file; pass the folder that holds config.json and the weights")
    left = left_behind(directory)
    if left is not None:
        raise CheckpointError(f"{path} does not exist, but an interrupted save left {left}; rename it back")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) or str(path).startswith("."):
        raise CheckpointError(f"{path} does not exist; pass a folder, or a Hugging Face name such as Qwen/Qwen3-0.6B")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(str(path), allow_patterns=_HUB_FILES)), str(path).split("/")[1]
    except Exception as error:  # of the hub, of the network beneath it, of the disk
        raise CheckpointError(
            f"{path} is no folder here and could not be fetched from Hugging Face ({type(error).__name__}); "
            "check the name and the connection, or download it elsewhere and pass the folder"
        ) from None


def _open(directory: Path, name: str) -> _Folder:
    """A folder that holds weights; ``name`` is that by which it is known."""
    stored: dict[str, weights.Stored] = {}

    def count() -> int:
        stored.update(weights.open_weights(directory))
        return len(stored)

    said = describe(directory, name, count)
    folder = _Folder(said, stored, _pieces(directory, said.family, said.config, stored))
    _check_weights(folder)
    return folder


def describe(directory: Path, name: str, count: Callable[[], int], file: str = "config.json") -> Description:
    """Read all of a folder but its weights; ``count`` tells how many tensors there are for its layers."""
    given = Fields(read_json(directory / file), str(directory / file))
    model_type = given.take("model_type", str)
    family = _family(given, model_type, directory)
    for settled in ("architectures", "auto_map", "dtype", "torch_dtype"):
        given.pop(settled, None)
    if given.get("quantization_config"):
        raise CheckpointError(f"{given.origin} says that the weights are quantised; use the unquantised checkpoint")
    given["model_type"] = model_type
    config, network = _build(family, given, count())
    given.pop("model_type", None)

    generation = Fields(
        read_json(directory / "generation_config.json", optional=True), str(directory / "generation_config.json")
    )
    stop, bos, pad = (_ids(role, generation, given) for role in ("eos_token_id", "bos_token_id", "pad_token_id"))
    files = tokens.read_files(directory)
    tokenizer = tokens.parse(files, directory)
    block_size = given.take(family.block_field, int, family.default_block_size(config, name))
    mask = given.take("mask_token_id", int, None)
    mask = tokens.find_mask(files, tokenizer) if mask is None else mask
    mask = family.free_mask if mask is None else mask
    _check_tokens(directory, family, config, tokenizer, mask, stop)
    return Description(
        path=directory,
        family=family,
        model_type=model_type,
        config=config,
        block_size=block_size,
        mask_token_id=mask,
        stop=stop,
        bos=next(iter(bos), None),
        pad=next(iter(pad), None),
        extra={"config": dict(given), "generation_config": dict(generation)},
        files=files,
        tokenizer=tokenizer,
        skeleton=network,
    )


def _build(family: Family, given: Fields, tensors: int) -> tuple[TransformerConfig, Transformer]:
    """The network of a config.json, on the meta device; no values of its fields are trusted."""
    try:
        config = family.read_config(given)
        if config.num_layers > tensors:
            raise SettingError(f"{config.num_layers} layers cannot come from {tensors} weights; correct the file")
        for name in ("hidden_size", "intermediate_size", "num_layers", "num_heads", "head_dim", "max_positions"):
            if not 1 <= getattr(config, name) <= 2**31:
                raise SettingError(f"{name} {getattr(config, name)} is beyond reason; correct the file")
        if not 0 <= config.norm_eps < 1:
            raise SettingError(f"the norm's epsilon is {config.norm_eps}; correct the file")
        return config, skeleton(config)
    except SettingError as error:
        raise CheckpointError(f"{given.origin}: {error}") from None
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise CheckpointError(f"{given.origin} describes an impossible network ({cause}); correct the file") from None


class _NoDraws(TorchFunctionMode):
    """Leaves tensors as they are where a module would draw its first weights."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def skeleton(config: TransformerConfig) -> Transformer:
    """The network without memory for its weights, on the ``meta`` device."""
    with torch.device("meta"), _NoDraws():  # drawing on "meta" would import the compiler, for seconds
        return Transformer(config)


def _allocate(network: Transformer, device: str | torch.device) -> None:
    """Memory for the weights of a skeleton; what is shared stays so.

    ``Module.to_empty`` parts what is shared, and on a CPU it imports the compiler's algebra, for half a second.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in network.modules():
        for name, old in list(module.named_parameters(recurse=False)):
            if old not in made:
                made[old] = nn.Parameter(torch.empty(old.shape, dtype=old.dtype, device=device), old.requires_grad)
            setattr(module, name, made[old])


def _pieces(
    directory: Path, family: Family, config: TransformerConfig, stored: Mapping[str, weights.Stored]
) -> dict[str, Piece]:
    pieces, missing = {}, []
    for piece in family.pieces(config, stored.keys()):
        pieces[piece.published] = piece
        if piece.published not in stored:
            missing.append(piece.published)
            if len(missing) == 1000:  # config.json is far off; there may be millions
                break
    if missing:
        raise CheckpointError(
            f"{directory}: the weights lack {_some(missing)}; download them all, or correct config.json "
            "(number of layers, tie_word_embeddings, biases)"
        )
    return pieces


def _ids(role: str, generation: Fields, given: Fields) -> tuple[int, ...]:
    """A special token's ids: those of generation_config.json, else of config.json (where the stop tokens stay too)."""
    found: tuple[int, ...] | None = None
    for source in (generation, given):
        value = source.get(role)
        if source is generation or role != "eos_token_id":
            source.pop(role, None)
        if value is None:
            continue
        several = tuple(value) if isinstance(value, list) else (value,)
        if any(type(one) is not int or one.bit_length() > 31 for one in several):
            raise CheckpointError(f"{source.origin}: {role} {value!r} is not a token id; correct the file")
        found = several if found is None else found
    return found or ()


def _check_tokens(
    directory: Path,
    family: Family,
    config: TransformerConfig,
    tokenizer: Tokenizer | None,
    mask: int | None,
    stop: Collection[int],
) -> None:
    if tokenizer is not None and config.vocab_size:
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if largest >= config.vocab_size:
            raise CheckpointError(
                f"{directory}: the tokenizer has ids up to {largest} but vocab_size is {config.vocab_size}; "
                "enlarge the network's vocabulary, or use the tokenizer that belongs to it"
            )
    if mask is None:
        if family.masked:
            raise CheckpointError(
                f"{directory}: a {family.name} checkpoint needs a mask token and names none; "
                "add mask_token_id to config.json, or mask_token to tokenizer_config.json"
            )
    elif not 0 <= mask < config.vocab_size:
        raise CheckpointError(
            f"{directory}: mask_token_id is {mask} but vocab_size is {config.vocab_size}; correct the one that is wrong"
        )
    elif tokenizer is not None and tokenizer.id_to_token(mask) is None:
        raise CheckpointError(
            f"{directory}: the tokenizer has no token {mask}, which is the mask_token_id; "
            "add the mask token to the tokenizer, or correct mask_token_id"
        )
    elif tokenizer is not None and mask not in tokenizer.get_added_tokens_decoder():
        raise CheckpointError(
            f"{directory}: mask_token_id is {mask}, which is the ordinary token {tokenizer.id_to_token(mask)!r} that "
            "texts contain; correct it to the id of the mask token, a special one"
        )
    elif mask in stop:
        raise CheckpointError(
            f"{directory}: mask_token_id is {mask}, which is an eos_token_id too, so every mask would end the text; "
            "correct the one that is wrong"
        )


def _check_weights(folder: _Folder) -> None:
    said, stored, pieces = folder.said, folder.stored, folder.pieces
    parameters = dict(said.skeleton.named_parameters())
    for name, piece in pieces.items():
        right, found = tuple(parameters[piece.ours][piece.index].shape), stored[name].shape
        if right != found:
            raise CheckpointError(
                f"{stored[name].file}: tensor {name} is {list(found)} but should be {list(right)} by config.json; "
                "correct config.json, or use the one that belongs to these weights"
            )
    known = pieces.keys() | said.family.aliases(said.config).keys()
    odd = [name for name in stored if name not in known and not harmless(name)]
    if odd:
        raise CheckpointError(
            f"{said.path}: the weights hold {_some(odd)}, unknown to a {said.model_type} of this config.json; "
            "correct config.json (number of layers, tie_word_embeddings, biases), or remove the tensors"
        )


def harmless(name: str) -> bool:
    """Whether a tensor may be there that no format has: it follows from the config."""
    return _HARMLESS.search(name) is not None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def save(
    checkpoint: Checkpoint,
    path: str | Path,
    dtype: str | torch.dtype | None = None,
    shard_bytes: int = 5_000_000_000,
    check_finite: bool = True,
) -> Path:
    """Write a checkpoint folder in its family's published format, in one piece or not at all.

    Everything goes to a folder beside ``path`` that takes its place when it is complete on the disk; until then an
    older checkpoint stays as it is. Entries of the older folder that no checkpoint has (logs, say) are moved over.

    Args:
        checkpoint: what to write; ``dataclasses.replace(checkpoint, family=...)`` to write another format.
        path: the folder.
        dtype: of the stored weights; None keeps that of the network.
        shard_bytes: size at which the weights are cut into several files.
        check_finite: refuse to write NaN or Inf over a good checkpoint.
    Raises ``CheckpointError`` if the format cannot express the network, and for everything that the disk refuses.
    """
    target = Path(path)
    family = families().get(checkpoint.family)
    if family is None:
        raise CheckpointError(f"unknown family {checkpoint.family!r}; known are {', '.join(families())}")
    config = checkpoint.config
    _check_tokens(target, family, config, checkpoint.tokenizer, checkpoint.mask_token_id, checkpoint.stop_token_ids)
    parameters = dict(checkpoint.network.named_parameters())
    stored_as = weights.to_dtype(dtype or next(iter(parameters.values())).dtype)
    text = contents(checkpoint, stored_as)
    model_type = json.loads(text["config.json"])["model_type"]
    if model_type in family.config_classes:
        opened_by = family.config_classes[model_type]
        text[opened_by.file] = opened_by.source(model_type)
    tensors = [(piece.published, parameters[piece.ours][piece.index]) for piece in family.pieces(config)]
    size = sum(tensor.numel() for _, tensor in tensors) * stored_as.itemsize + sum(map(len, text.values()))
    with replacing(target, size, ours) as work:
        weights.write_weights(work, tensors, stored_as, shard_bytes, check_finite)
        for name, content in text.items():
            (work / name).write_bytes(content)
    return target


def ours(name: str) -> bool:
    """Whether a file of that name is part of a checkpoint."""
    known = {"config.json", "generation_config.json", weights.SINGLE, weights.INDEX, *tokens.FILES, *ADAPTER}
    known |= {made.file for family in families().values() for made in family.config_classes.values()}
    return name in known or re.fullmatch(r"model-\d+-of-\d+\.safetensors", name) is not None


def contents(checkpoint: Checkpoint, stored_as: torch.dtype) -> dict[str, bytes]:
    """Every file but the weights."""
    extra, stop, family = checkpoint.extra, checkpoint.stop_token_ids, families()[checkpoint.family]
    written = family.write_config(checkpoint)
    differ = _differences(checkpoint.config, family, written)
    if differ:
        raise CheckpointError(
            f"the {family.name} format cannot express {', '.join(differ)}; set family to one that can: 'interlace' "
            "takes every network"
        )
    if written["model_type"] in family.config_classes:
        written["auto_map"] = family.config_classes[written["model_type"]].auto_map
    eos: Any = list(stop) if len(stop) > 1 else next(iter(stop), None)
    generation = {**extra.get("generation_config", {})}
    before = extra.get("config", {}).get("eos_token_id")
    # published folders often name one stop token in config.json and all of them in generation_config.json
    keep = before is not None and set(before if isinstance(before, list) else [before]) <= set(stop)
    roles = {"bos_token_id": checkpoint.bos_token_id, "pad_token_id": checkpoint.pad_token_id}
    config = {**extra.get("config", {}), **written, **roles, "eos_token_id": before if keep else eos}
    config["torch_dtype"] = str(stored_as).removeprefix("torch.")
    for name, value in ((family.block_field, checkpoint.block_size), ("mask_token_id", checkpoint.mask_token_id)):
        if value is not None:
            config[name] = value
    roles["eos_token_id"] = eos
    generation |= {name: value for name, value in roles.items() if value is not None}
    text = tokens.files_to_write(
        checkpoint.tokenizer,
        checkpoint.tokenizer_files,
        {
            "bos_token": checkpoint.bos_token_id,
            "eos_token": next(iter(stop), None),
            "pad_token": checkpoint.pad_token_id,
            "mask_token": checkpoint.mask_token_id,
        },
        checkpoint.config.max_positions,
        masked=family.masked or checkpoint.block_size is not None,
    )
    text["config.json"] = _json(config)
    if generation:
        text["generation_config.json"] = _json(generation)
    return text


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def expressible(checkpoint: Checkpoint, family: str) -> bool:
    """Whether the network can be written in the format of that name.

    >>> expressible(Checkpoint(Transformer(TransformerConfig(vocab_size=32, qk_norm=True))), "qwen2")
    False
    """
    return not inexpressible(checkpoint, family)


def inexpressible(checkpoint: Checkpoint, family: str) -> list[str]:
    """What of the network the format of that name cannot express, a field of its config each.

    >>> inexpressible(Checkpoint(Transformer(TransformerConfig(vocab_size=32, qk_norm=True))), "qwen2")
    ['qkv_bias=False (it would be True)', 'qk_norm=True (it would be False)']
    """
    found = families()[family]
    return _differences(checkpoint.config, found, found.write_config(checkpoint))


def _differences(config: TransformerConfig, family: Family, written: dict[str, Any]) -> list[str]:
    """A format expresses a network if what it writes reads back as the same network."""
    try:
        back = family.read_config(Fields(json.loads(json.dumps(written)), "config.json"))
    except InterlaceError as error:
        return [f"this network ({error})"]
    differ = []
    for one in fields(TransformerConfig):
        ours, theirs = getattr(config, one.name), getattr(back, one.name)
        if one.name == "moe" and ours is not None:
            ours = replace(ours, dense_layers=tuple(sorted(set(ours.dense_layers))))
        same = _same_rope(ours, theirs, config.head_dim) if one.name == "rope" else ours == theirs
        if not same:
            instead = f" (it would be {theirs})" if isinstance(theirs, int | float) else ""
            differ.append(f"{one.name}={ours!r}{instead}")
    return differ


def _same_rope(a: Rope, b: Rope, head_dim: int) -> bool:
    if a.segments(head_dim) != b.segments(head_dim) or a.magnitude != b.magnitude:
        return False
    return all(torch.equal(x, y) for x, y in zip(a.frequencies(head_dim), b.frequencies(head_dim), strict=True))


@dataclass(frozen=True)
class Summary:
    """What a checkpoint is, without its weights. ``str()`` of it is a few lines for people."""

    family: str
    model_type: str
    config: TransformerConfig
    block_size: int | None
    mask_token_id: int | None
    parameters: int
    dtype: str
    bytes: int
    files: int
    tokenizer: bool
    adapter: str | None = None

    def __str__(self) -> str:
        c = self.config
        shape = f"{c.num_layers} layers of {c.hidden_size}, {c.num_heads} heads"
        shape += f" ({c.num_kv_heads} for keys) of {c.head_dim}, " if c.num_kv_heads != c.num_heads else ", "
        if c.moe is None:
            shape += f"MLP {c.intermediate_size}"
        else:
            shape += f"{c.moe.per_token} of {c.moe.experts} experts of {c.moe.intermediate_size}"
        ends = f"vocabulary {c.vocab_size}" if c.vocab_size else f"{c.features} features"
        lines = [
            f"{self.family} (model_type {self.model_type})",
            f"{shape}; {ends}{', tied' if c.tied and c.vocab_size else ''}; {c.max_positions} positions",
            f"{self.parameters:,} parameters, {self.dtype}, {self.bytes / 1e9:.2f} GB in {self.files} file(s)",
        ]
        if self.adapter is not None:
            lines.append(self.adapter)
        if self.block_size is not None:
            lines.append(f"blocks of {self.block_size}, mask token {self.mask_token_id}")
        return "\n".join(lines)


def summary(path: str | Path) -> Summary:
    """What a checkpoint is, from the headers of its files; it is checked like in ``load``, but for the values.

    >>> print(summary("Qwen/Qwen3-0.6B"))     # doctest: +SKIP
    qwen3 (model_type qwen3)
    28 layers of 1024, 16 heads (8 for keys) of 128, MLP 3072; vocabulary 151936, tied; 40960 positions
    596,049,920 parameters, bfloat16, 1.19 GB in 1 file(s)
    """
    directory, name = _locate(path)
    if _is_adapter(directory):
        from .adapter import summary_of_adapter

        return summary_of_adapter(directory)
    folder = _open(directory, name)
    said = folder.said
    dtype = str(weights.common_dtype(folder.stored)).removeprefix("torch.")
    files = {tensor.file for tensor in folder.stored.values()}
    return Summary(
        family=said.family.name,
        model_type=said.model_type,
        config=said.config,
        block_size=said.block_size,
        mask_token_id=said.mask_token_id,
        parameters=sum(parameter.numel() for parameter in said.skeleton.parameters()),
        dtype=dtype,
        bytes=sum(file.stat().st_size for file in files),
        files=len(files),
        tokenizer=said.tokenizer is not None,
    )
