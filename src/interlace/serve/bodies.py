"""What may be asked: the fields of the two bodies, and which of OpenAI's fields are refused unless they say nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import amiss
from .wire import Refused

__all__ = ["ChatBody", "Common", "CompletionBody", "Message", "StreamOptions", "checked"]

ROWS = 128
"""Answers to one request: prompts times ``n``."""
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    include_usage: bool | None = Field(None, description="one more chunk at the end, with the usage and no choices")


class Common(BaseModel):
    """Fields that completions and chats share. Every other setting of the system's decoding is a field as well."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str | None = Field(None, description="a name that /v1/models lists; none: the first of them")
    temperature: float | None = Field(None, ge=0, le=2, description="0 is greedy; default: the model's own")
    top_p: float | None = Field(None, gt=0, le=1, description="keep the smallest set of this probability; 1 is off")
    top_k: int | None = Field(None, ge=-1, description="keep the likeliest tokens only; 0 and -1 are off")
    seed: int | None = Field(
        None, ge=-(2**63), lt=2**63, description="of all draws; the answer number i draws with seed + i; default: drawn"
    )
    stop: str | list[str] | None = Field(None, description="end before any of these texts; up to 16")
    n: int | None = Field(None, ge=1, le=ROWS, description="answers to every prompt")
    stream: bool | None = Field(None, description="answer as server-sent events")
    stream_options: StreamOptions | None = None
    logit_bias: dict[str, float] | None = Field(None, description="token id -> what is added to its logit, -100 to 100")
    response_format: dict[str, Any] | None = Field(None, description="text, json_object, or json_schema with a schema")
    regex: str | None = Field(None, description="the new text matches this regular expression from end to end")
    system: str | None = Field(None, description="decode the same weights as this system")
    drafts: bool | None = Field(None, description="also stream units that are not final yet, as choices[].unit")
    presence_penalty: float | None = Field(None, description="only 0")
    frequency_penalty: float | None = Field(None, description="only 0")
    user: str | None = Field(None, description="taken, and not used")


class CompletionBody(Common):
    """The body of POST /v1/completions."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]] = Field(
        description="a text, token ids, or a list of either"
    )
    max_tokens: int | None = Field(None, ge=0, description="new tokens; default 16")
    logprobs: int | None = Field(None, ge=0, le=20, description="log-probabilities, and of so many alternatives")
    echo: bool | None = Field(None, description="the prompt before the answer")
    suffix: str | None = Field(None, description="what follows: max_tokens tokens are filled in between (infilling)")
    best_of: int | None = Field(None, description="only n")


class Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatBody(Common):
    """The body of POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, description="a conversation; an assistant's turn at its end goes on")
    max_tokens: int | None = Field(None, ge=1, description="as max_completion_tokens")
    max_completion_tokens: int | None = Field(None, ge=1, description="new tokens; default: what the context leaves")
    logprobs: bool | None = Field(None, description="log-probabilities of the tokens")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="and of so many alternatives")


SILENT: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "moderation": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
"""OpenAI's fields that are not supported, with the values besides null that ask for nothing."""
NOTES = {"metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}
"""Fields that say nothing about the answer: taken, and not used."""
MESSAGE: dict[str, Any] = {"refusal": None, "annotations": [], "tool_calls": [], "function_call": None, "audio": None}
"""What clients send back with an assistant's turn, when it holds nothing."""


def checked(kind: type[Any], body: dict[str, Any]) -> Any:
    """The body as an object of its class; ``Refused`` names the first field that is wrong.

    What is left in ``model_extra`` are names that may be settings of the system.
    """
    for name in [name for name in body if name in SILENT or name in NOTES]:
        value = body.pop(name)
        if name in SILENT and value is not None and not any((value == one and type(value) is type(one)) or (
            one == 0 and value == 0 and not isinstance(value, bool)) for one in SILENT[name]):  # fmt: skip
            allowed = ", ".join(repr(one) for one in SILENT[name])
            raise Refused(
                f"{name} is not supported here; leave it out{f' (or pass {allowed})' if allowed else ''}",
                name,
                "unsupported_parameter",
            )
    _texts(body.get("messages"))
    try:
        found = kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = _place(first["loc"])
        code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
        raise Refused(amiss(place, first), place, code) from None
    for number, message in enumerate(found.messages if isinstance(found, ChatBody) else ()):
        for name, value in (message.model_extra or {}).items():
            if name not in MESSAGE or value not in (None, MESSAGE[name]):
                place = f"messages[{number}].{name}"
                raise Refused(f"{place} is not supported here; leave it out", place, "unsupported_parameter")
    return found


def _texts(messages: Any) -> None:
    """Refuse parts of messages that are no text by what they are."""
    for i, message in enumerate(messages if isinstance(messages, list) else ()):
        parts = message.get("content") if isinstance(message, dict) else None
        for j, part in enumerate(parts if isinstance(parts, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind != "text":
                place = f"messages[{i}].content[{j}]"
                raise Refused(
                    f"{place} is a part of the type {kind[:40]!r}; only parts of type text are read here",
                    f"messages[{i}].content",
                    "unsupported_content",
                )


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the body; without the branches of a union, which are no part of it.

    >>> _place(("messages", 0, "content", "str"))
    'messages[0].content'
    """
    place = ""
    for part in loc:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part in ("str", "[key]") or "[" in part:
            break
        else:
            place += f".{part}" if place else part
    return place
