"""Learning little of a network: low-rank adapters beside frozen matrices, and single rows of the embedding.

A matrix that holds several published ones (qkv, gate and up) is cut into them, so that each gets an adapter of its own,
as in the published network. Source of the adapters: LoRA, arXiv:2106.09685, by the library ``peft``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from .transformer import MLP, Attention, Transformer

__all__ = ["Head", "Joined", "Rows", "adaptable", "bare", "mount", "unmount"]


class Joined(nn.Module):
    """Several linear maps of one input, side by side: y = [W_1 x + b_1 ; W_2 x + b_2 ; ...]. Views of one matrix.

    >>> whole = nn.Linear(4, 6)
    >>> parts = Joined(whole, {"q_proj": slice(0, 4), "k_proj": slice(4, 6)})
    >>> torch.equal(parts(torch.ones(1, 4)), whole(torch.ones(1, 4)))
    True
    """

    def __init__(self, whole: nn.Linear, parts: Mapping[str, slice]) -> None:
        super().__init__()
        for name, rows in parts.items():
            part = nn.Linear(1, 1, bias=False, device="meta")
            part.in_features, part.out_features = whole.in_features, rows.stop - rows.start
            part.weight = nn.Parameter(whole.weight.detach()[rows])
            part.bias = None if whole.bias is None else nn.Parameter(whole.bias.detach()[rows])
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.children()], -1)


class Rows(nn.Module):
    """An embedding of which the rows ``ids`` are learnt, apart from the frozen matrix; they begin as they are there."""

    def __init__(self, base: nn.Embedding, ids: Sequence[int]) -> None:
        super().__init__()
        self.base, self.ids = base, tuple(ids)
        self.rows = nn.Parameter(base.weight.detach()[list(ids)].float())

    @property
    def weight(self) -> Tensor:
        """The frozen matrix."""
        return self.base.weight

    def forward(self, content: Tensor) -> Tensor:
        x = self.base(content)
        for number, row in zip(self.ids, self.rows, strict=True):
            x = torch.where((content == number).unsqueeze(-1), row.to(x.dtype), x)
        return x


class Head(nn.Module):
    """The head that shares the matrix of such an embedding: it has the learnt rows too."""

    def __init__(self, base: nn.Linear, embed: Rows) -> None:
        super().__init__()
        self.base, self.ids, self.rows = base, embed.ids, embed.rows

    @property
    def weight(self) -> Tensor:
        """The frozen matrix."""
        return self.base.weight

    def forward(self, hidden: Tensor) -> Tensor:
        logits = self.base(hidden)
        own = F.linear(hidden, self.rows.to(hidden.dtype)).to(logits.dtype)
        # in place: the logits of all tokens are the largest tensor of a step
        return logits.index_copy_(-1, torch.tensor(self.ids, device=logits.device), own)


def adaptable(network: Transformer) -> list[str]:
    """The linear maps inside the blocks that adapters can stand beside; routers, experts and modulations stay as
    they are."""
    return [
        f"blocks.{name}.{child}"
        for name, module in network.blocks.named_modules()
        if isinstance(module, Attention | MLP)
        for child, linear in module.named_children()
        if isinstance(linear, nn.Linear)
    ]


def mount(
    network: Transformer,
    places: Mapping[str, Mapping[str, slice]],
    targets: Sequence[tuple[str, str]],
    rank: int,
    alpha: float,
    dropout: float,
    ids: Sequence[int],
    generator: torch.Generator,
) -> None:
    """Freeze a network, and put adapters beside some of its matrices: y = W x + alpha / rank * B A dropout(x).

    B begins as zero, so the network computes what it did. What is learnt is float32, whatever the frozen weights are.

    Args:
        places: of every linear map, by its name, the published matrices in it and their rows.
        targets: (linear map, published matrix) of every adapter. ids: rows of the embedding that are learnt.
        generator: draws A, uniform in +-1 / sqrt(channels).
    """
    peft = _peft()
    names = []
    for place, part in targets:
        if len(places[place]) == 1:
            names.append(place)
            continue
        owner, _, child = place.rpartition(".")
        parent = network.get_submodule(owner)
        if not isinstance(getattr(parent, child), Joined):
            setattr(parent, child, Joined(getattr(parent, child), places[place]))
        names.append(f"{place}.{part}")
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
    with torch.random.fork_rng(devices=[]):  # its own draws are replaced
        peft.inject_adapter_in_model(config, network)  # which freezes all the rest
    for name in names:
        layer: Any = network.get_submodule(name)
        down, up = layer.lora_A["default"].float(), layer.lora_B["default"].float()
        bound = down.in_features**-0.5
        with torch.no_grad():
            down.weight.uniform_(-bound, bound, generator=generator)
            up.weight.zero_()
    if ids:
        tied = network.output.weight is network.embed.weight
        assert isinstance(network.embed, nn.Embedding)
        network.embed = Rows(network.embed, ids)
        if tied:
            network.output = Head(network.output, network.embed)  # type: ignore[assignment]


def unmount(network: Transformer) -> None:
    """Take the adapters away again, and join what was cut: the network as it was before ``mount``."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Rows | Head):
                setattr(parent, name, child.base)
            elif isinstance(child, Joined):
                setattr(parent, name, _joined([_base(part) for part in child.children()]))
            elif hasattr(child, "get_base_layer") and not isinstance(parent, Joined):
                setattr(parent, name, _base(child))
    vars(network).pop("peft_config", None)
    network.requires_grad_(True)


@contextmanager
def bare(network: Transformer) -> Iterator[Transformer]:
    """Inside, the network as it was before ``mount``: what is learnt beside it counts for nothing."""
    layers: list[Any] = [module for module in network.modules() if hasattr(module, "enable_adapters")]
    rows = {name: child for name, child in network.named_children() if isinstance(child, Rows | Head)}
    try:
        for layer in layers:
            layer.enable_adapters(False)
        for name, child in rows.items():
            setattr(network, name, child.base)
        yield network
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for name, child in rows.items():
            setattr(network, name, child)


def _base(module: Any) -> nn.Linear:
    base: nn.Linear = module.get_base_layer() if hasattr(module, "get_base_layer") else module
    return base


def _joined(parts: Sequence[nn.Linear]) -> nn.Linear:
    whole = nn.Linear(1, 1, bias=False, device="meta")
    whole.in_features, whole.out_features = parts[0].in_features, sum(part.out_features for part in parts)
    with torch.no_grad():
        whole.weight = nn.Parameter(torch.cat(tuple(part.weight for part in parts)))
        biases = tuple(part.bias for part in parts if part.bias is not None)
        if biases:
            whole.bias = nn.Parameter(torch.cat(biases))
    return whole


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise SettingError("low-rank adapters need peft; pip install 'interlace[peft]'") from None
    return peft
