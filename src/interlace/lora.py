"""Low-rank adaptation (LoRA): what is learnt, under the names of the published network.

y = W x + alpha / rank * B A x, with W frozen, A [rank, channels in] and B [channels out, rank].
Source: arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from .checkpoints import Checkpoint, Piece, families
from .checkpoints.adapter import PREFIX, fingerprint, merge
from .errors import SettingError, nearest
from .nn import Transformer
from .nn.adapters import adaptable, bare, mount, unmount

__all__ = ["Lora", "LoraSettings", "identity"]


class LoraSettings(BaseModel):
    """Which adapters are learnt in place of the weights.

    >>> settings = LoraSettings(lora=8, lora_targets=["q_proj,v_proj"])
    >>> settings.alpha, settings.lora_targets
    (16.0, ['q_proj', 'v_proj'])
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lora: int = Field(ge=1, description="learn low-rank adapters of this rank, and leave the weights frozen")
    lora_alpha: float | None = Field(
        None, gt=0, description="adapters count alpha / rank times (default: twice the rank)"
    )
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="share of an adapter's input that is dropped in training")
    lora_targets: list[str] = Field([], description="matrices that get an adapter, by their published names")
    merge: bool = Field(True, description="write the model with its adapters merged; or else the adapters alone")

    @field_validator("lora_targets")
    @classmethod
    def _split(cls, given: list[str]) -> list[str]:
        return [part.strip() for one in given for part in one.split(",") if part.strip()]

    @property
    def alpha(self) -> float:
        """``lora_alpha``, or twice the rank."""
        return self.lora_alpha or 2.0 * self.lora


@dataclass(frozen=True)
class _Place:
    """A matrix that can be adapted: ours[rows], published under that name."""

    ours: str
    published: str
    rows: slice

    @property
    def leaf(self) -> str:
        return self.published.rpartition(".")[2]


class Lora:
    """The adapters of a network that is being trained; ``checkpoint.network`` has them from now on.

    Every matrix of a block gets one (or those that ``settings.lora_targets`` names), and ``tokens`` are rows of the
    embedding that are learnt beside them: a new mask token means nothing to a frozen one.

    Args:
        checkpoint: read from a folder, which the adapters name as their base; its family gives the published names.
        tokens: ids of these rows. seed: of the first values.

    Raises ``SettingError`` for a target that the network does not have, for experts and routers, without ``peft``, and
    for a checkpoint that was read from no folder.

    >>> adapters = Lora(load("Qwen/Qwen3-0.6B"), LoraSettings(lora=8), tokens=[151669])     # doctest: +SKIP
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: LoraSettings, tokens: Sequence[int] = (), seed: int = 0
    ) -> None:
        network = checkpoint.network
        self.checkpoint, self.settings, self.tokens = checkpoint, settings, list(tokens)
        if checkpoint.source is None:
            raise SettingError("adapters name the folder of their base; save the model and load it from there")
        self.source, self.base = checkpoint.source, fingerprint(network)
        every = _places(self._pieces(), network)
        self.targets = _chosen(every, self._pieces(), settings.lora_targets)
        cut: dict[str, dict[str, slice]] = {}
        for place in every:
            cut.setdefault(place.ours, {})[place.leaf] = place.rows
        self._cut = {ours for ours, parts in cut.items() if len(parts) > 1}
        mount(
            network,
            cut,
            [(place.ours, place.leaf) for place in self.targets],
            settings.lora,
            settings.alpha,
            settings.lora_dropout,
            self.tokens,
            torch.Generator().manual_seed(seed),
        )

    @property
    def learnt(self) -> int:
        """How many numbers are learnt."""
        return sum(p.numel() for p in self.checkpoint.network.parameters() if p.requires_grad)

    @property
    def names(self) -> list[str]:
        """The published names of the adapted matrices, each once."""
        return list(dict.fromkeys(place.leaf for place in self.targets))

    def config(self) -> dict[str, Any]:
        """The arguments of ``peft.LoraConfig`` that say all this of the published network."""
        adapted = {place.published for place in self.targets}
        others = {_module(piece.published) for piece in self._pieces()} - adapted
        # a last name stands for every module that has it
        plain = not {other.rpartition(".")[2] for other in others} & set(self.names)
        modules = self.names if plain else sorted(adapted)
        alpha = self.settings.alpha
        return {
            "r": self.settings.lora,
            "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
            "lora_dropout": self.settings.lora_dropout,
            "target_modules": modules,
            "trainable_token_indices": {self._embed().rpartition(".")[2]: self.tokens} if self.tokens else None,
            "task_type": "CAUSAL_LM",
            "inference_mode": True,
        }

    def tensors(self) -> dict[str, Tensor]:
        """What was learnt, under the names of PEFT's files, on the CPU."""
        network = self.checkpoint.network
        found = {}
        for place in self.targets:
            name = f"{place.ours}.{place.leaf}" if place.ours in self._cut else place.ours
            layer: Any = network.get_submodule(name)
            for part in ("lora_A", "lora_B"):
                found[f"{PREFIX}{place.published}.{part}.weight"] = getattr(layer, part)["default"].weight
        if self.tokens:
            rows: Any = network.embed
            found[f"{PREFIX}{self._embed()}.token_adapter.trainable_tokens_delta"] = rows.rows
        return {name: value.detach().cpu().clone() for name, value in found.items()}

    def off(self) -> AbstractContextManager[Transformer]:
        """Inside, the network as it was before anything was learnt."""
        return bare(self.checkpoint.network)

    def merge(self) -> dict[str, Tensor]:
        """Make the network plain again, with the adapters in its weights; what was learnt is returned."""
        learnt = self.tensors()
        unmount(self.checkpoint.network)
        merge(self.checkpoint.network, self.checkpoint.family, self.config(), learnt, "the run")
        return learnt

    def _pieces(self) -> list[Piece]:
        return list(families()[self.checkpoint.family].pieces(self.checkpoint.config))

    def _embed(self) -> str:
        return next(_module(piece.published) for piece in self._pieces() if piece.ours == "embed.weight")


def identity(adapters: Lora | None) -> dict[str, Any]:
    """What a run has to have in common with the one that it goes on with: the adapters, and the weights below them."""
    if adapters is None:
        return {"lora": None}
    return adapters.settings.model_dump(mode="json", exclude={"merge"}) | {"frozen weights": adapters.base}


def _module(tensor: str) -> str:
    """The published module of a tensor."""
    return tensor.rpartition(".")[0]


def _places(pieces: Sequence[Piece], network: Transformer) -> list[_Place]:
    """Every matrix of the blocks that can be adapted."""
    linears = {f"{name}.weight": name for name in adaptable(network)}
    found = []
    for piece in pieces:
        if piece.ours in linears:
            whole = network.get_submodule(linears[piece.ours])
            rows = piece.index[0] if piece.index else slice(0, whole.out_features)
            assert isinstance(rows, slice)
            found.append(_Place(linears[piece.ours], _module(piece.published), rows))
    return found


def _chosen(places: Sequence[_Place], pieces: Sequence[Piece], wanted: Sequence[str]) -> list[_Place]:
    """Those of the wanted names; all of them if none is wanted."""
    known = list(dict.fromkeys(place.leaf for place in places))
    if not wanted:
        return list(places)
    adaptable = {place.published for place in places}
    for name in wanted:
        frozen = [
            piece.ours
            for piece in pieces
            if (module := _module(piece.published)) not in adaptable and module.rpartition(".")[2] == name
        ]
        if any("mlp.expert" in ours for ours in frozen):
            raise SettingError(
                f"{name} is a matrix of the experts, which get no adapters; pass others of {', '.join(known)}"
            )
        if name not in known:
            why = "stays as it is" if frozen else "is no matrix of this network"
            raise SettingError(f"lora_targets: {name} {why}; {nearest(name, known)}")
    return [place for place in places if place.leaf in wanted]
