"""Opening the model that an option names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["OPENING", "open_text_model", "place_of"]

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
)


def open_text_model(
    model: str, system: str | None, dtype: str | None, device: str | None, decoding: Mapping[str, Any]
) -> Model:
    """The model, with its decoding settings changed. ``SettingError`` for one that does not generate text."""
    import torch

    from ..model import load
    from ..systems.system import TextSettings

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise SettingError(f"--device {device} cannot be used ({why}); pass cpu, or leave it out") from None
    found = load(model, system, dtype, device)
    if not isinstance(found.settings, TextSettings):
        raise SettingError(f"{model} is a model of the system {found.system.name}, which does not generate text")
    return found.with_(**decoding)


def place_of(model: str) -> str | Path:
    """The folder of a bundled model; every other name as it is."""
    from ..model import BUNDLED

    bundled = BUNDLED / model
    return bundled if model in ("base", "twin") and bundled.is_dir() and not Path(model).exists() else model
