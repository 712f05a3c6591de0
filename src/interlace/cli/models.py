"""Opening the model that an option names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting
from .console import say
from .settings import SET, assignments

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["OPENING", "open_clip_model", "open_text_model"]

OPENING = (
    Setting(
        "system", str, "decode as this system", shown="the one of the model's format", panel="Decoding", short="-s"
    ),
    Setting(
        "dtype",
        str,
        "of the weights: float32, bfloat16 or float16",
        shown="as stored; float32 on a slow processor",
        panel="Decoding",
    ),
    Setting("device", str, "where it runs: cpu, cuda, cuda:1", shown="cuda if there is one", panel="Decoding"),
    Setting("quantize", str, "int8: linear layers in 8 bits, by torchao", panel="Decoding"),
    Setting("skip_layers", list[int], "blocks left out of the network, from 1; see interlace layers", panel="Decoding"),
    replace(SET, panel="Decoding"),
)


def open_text_model(
    model: str, system: str | None, dtype: str | None, device: str | None, decoding: Mapping[str, Any]
) -> Model:
    """The model, with its decoding settings changed. ``SettingError`` for one that does not generate text."""
    from ..systems.system import TextSettings

    found = _open(model, system, dtype, device, decoding.get("quantize"))
    if not isinstance(found.settings, TextSettings):
        raise SettingError(
            f"{model} is a model of the system {found.system.name}, which does not generate text; sample from it by "
            f"interlace sample --model {model}"
        )
    if system is not None and not _adapted(found):
        say(
            f"{model} is an autoregressive model ({found.checkpoint.family}) that was never adapted: as {system} it "
            f"writes nonsense; interlace adapt --system {system} --model {model} makes it one"
        )
    return _changed(found, decoding)


def _adapted(model: Model) -> bool:
    """Whether its system is autoregressive, or its format or config.json says that its weights know masks."""
    from ..model import system_of

    return not model.system.denoises or system_of(model.checkpoint)[0].denoises


def open_clip_model(model: str, dtype: str | None, device: str | None, decoding: Mapping[str, Any]) -> Model:
    """The model, with its sampling settings changed. ``SettingError`` for one that generates text."""
    from ..systems.system import TextSettings

    found = _open(model, None, dtype, device, decoding.get("quantize"))
    if isinstance(found.settings, TextSettings):
        raise SettingError(
            f"{model} is a model of the system {found.system.name}, which generates text; use interlace generate "
            f"--model {model}"
        )
    return _changed(found, decoding)


def _changed(found: Model, decoding: Mapping[str, Any]) -> Model:
    """Options of the command line, and what ``--set`` says beside them."""
    named = {name: value for name, value in decoding.items() if name not in ("set", "skip_layers", "quantize")}
    others = assignments(decoding.get("set"))
    twice = next((name for name in others if named.get(name) is not None), None)
    if twice is not None:
        raise SettingError(f"{twice} is given by --{twice.replace('_', '-')} and by --set; pass one of them")
    given = {name: value for name, value in (named | others).items() if value is not None}
    changed = found.with_(**given)
    idle = given.keys() - changed.system.reads(changed.settings) if given else ()
    for name in sorted(idle):
        say(f"{name} changes nothing of {changed.system.name} as it is set; leave it out")
    return changed.without(decoding["skip_layers"]) if decoding.get("skip_layers") else changed


def _open(model: str, system: str | None, dtype: str | None, device: str | None, quantize: str | None) -> Model:
    import torch

    from ..model import load

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise SettingError(f"--device {device} cannot be used ({why}); pass cpu, or leave it out") from None
    return load(model, system, dtype, device, quantize)
