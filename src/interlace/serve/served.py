"""A model behind a server: its name, its engine, how it talks, and what it says of itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ..checkpoints.chat import chat, chat_template
from ..constraints import vocabulary
from ..engine import Service, Workers
from ..errors import InterlaceError, SettingError
from ..systems import systems
from ..systems.system import CHECKPOINT, TextSettings
from ..worlds.tokenizer import encode

if TYPE_CHECKING:
    from ..model import Model
    from .bodies import Message
    from .replicas import Replicas

__all__ = ["Served"]

HIDDEN = CHECKPOINT - {"block_size"}
"""Settings that a checkpoint says, and nobody else."""


@dataclass
class Served:
    """A model, the service that decodes it, and how a conversation becomes a prompt.

    template: "model" (its own chat template), "plain" (the turns' texts with an empty line between them: what a model
    without a template is given) or "none" (conversations are refused).
    """

    name: str
    model: Model
    service: Service | Workers | Replicas
    template: Literal["model", "plain", "none"] = field(default="plain")

    def __post_init__(self) -> None:
        if self.model.tokenizer is None:
            raise SettingError(f"{self.name} has no tokenizer.json, which a server needs; add the tokenizer's files")
        if self.template == "plain" and chat_template(self.model.checkpoint) is not None:
            self.template = "model"
        self._chat = chat(self.model.checkpoint) if self.template == "model" else None

    @property
    def context(self) -> int:
        """The longest row, in tokens: what the model reads, if the engine's memory holds it."""
        return min(int(self.model.checkpoint.config.max_positions), self.service.slots)

    @cached_property
    def words(self) -> Sequence[bytes]:
        """The bytes of every token; none of one that stands in no text, or where the tokenizer does not say them."""
        size = self.model.checkpoint.config.vocab_size
        try:
            return vocabulary(self.model.tokenizer, size).words
        except SettingError:
            return [b""] * size

    def settings(self, model: Model) -> dict[str, Any]:
        """The defaults of a decoding: the system's, but for what ``generation_config.json`` says of sampling."""
        found = {name: value for name, value in model.settings.model_dump(mode="json").items() if name not in HIDDEN}
        return found | self.sampling

    @property
    def sampling(self) -> dict[str, Any]:
        """temperature, top_k and top_p of ``generation_config.json``, if it says ``do_sample``."""
        said = self.model.checkpoint.extra.get("generation_config", {})
        if not isinstance(said, dict) or said.get("do_sample") is not True:
            return {}
        found: dict[str, Any] = {"temperature": 1.0}
        for name, least in (("temperature", 0.0), ("top_p", 1e-6), ("top_k", 0)):
            value = said.get(name)
            if isinstance(value, int | float) and math.isfinite(value) and value >= least:
                found[name] = int(value) if name == "top_k" else min(float(value), 1.0 if name == "top_p" else 2.0)
        return found

    def conversation(self, messages: Sequence[Message]) -> tuple[list[int], str]:
        """The prompt of a conversation: token ids and text."""
        if self.template == "none":
            raise SettingError(f"{self.name} takes no conversations; use /v1/completions")
        if self._chat is None:
            text = "\n\n".join(message.text for message in messages)
            return self.model.encode_prompt(text), text
        turns = [
            {"role": "system" if message.role == "developer" else message.role, "content": message.text}
            | ({"name": message.name} if message.name else {})
            for message in messages
        ]
        text = self._chat(turns)
        return encode(self.model.tokenizer, text, allow_special=True), text

    def card(self, created: int) -> dict[str, Any]:
        """What /v1/models says of it."""
        settings = self.settings(self.model)
        schema = type(self.model.settings).model_json_schema()["properties"]
        decodings = self._decodings()
        return {
            "id": self.name,
            "object": "model",
            "created": created,
            "owned_by": "interlace",
            "interlace": {
                "system": self.model.system.name,
                "title": self.model.system.title,
                "systems": list(decodings),
                "decodings": decodings,
                "block_size": self.model.parts.layout.size,
                "context_length": self.context,
                "chat_template": self.template,
                "infills": self.infills(self.model),
                "denoises": self.model.system.denoises,
                "dial": None if self.model.system.dial is None else self.model.system.dial[0],
                "settings": {
                    name: _field(schema[name]) | {"default": value}
                    for name, value in settings.items()
                    if name in schema
                },
            },
        }

    def infills(self, model: Model) -> bool:
        """Whether it can fill what is open inside a prompt."""
        return model.parts.fills

    def _decodings(self) -> dict[str, dict[str, Any]]:
        """The systems that these weights can be decoded as, and what they are then."""
        found = {}
        for name, system in systems().items():
            if isinstance(system.settings, TextSettings):
                try:
                    model = self.model.under(name)
                    size = model.parts.layout.size
                except InterlaceError:
                    continue
                found[name] = {
                    "title": system.title,
                    "block_size": size,
                    "infills": self.infills(model),
                    "denoises": system.denoises,
                }
        return found


def _field(schema: dict[str, Any]) -> dict[str, Any]:
    """A setting as JSON schema writes it: type, bounds or values, and what it means."""
    inner: dict[str, Any] = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), {})
    kept = ("type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "description")
    return {key: value for key, value in {**schema, **inner}.items() if key in kept}
