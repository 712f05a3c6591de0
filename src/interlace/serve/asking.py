"""From a body to rows of an engine: every field that is wrong is found here, and named."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..constraints import Constraint, json_schema, regex
from ..engine import Request
from ..errors import InterlaceError, SettingError, amiss, nearest
from ..writing import Writing
from .bodies import ROWS
from .compiling import Wanted
from .json_object import JSON_OBJECT
from .served import HIDDEN
from .wire import Refused, refusal

if TYPE_CHECKING:
    from ..model import Model
    from .bodies import Common
    from .served import Served

__all__ = ["Ask", "Prompt", "asked", "wanted"]

STOPS, STOP_LENGTH, BIASES = 16, 1024, 1024


@dataclass(frozen=True)
class Prompt:
    """What is known: its tokens, and what they say."""

    ids: Sequence[int]
    text: str


@dataclass
class Ask:
    """One row that is asked for, and what of it is written. start: the place of its first new token.
    cached: tokens of its prompt that were found in memory."""

    request: Request
    prompt: Prompt
    start: int
    writing: Writing
    cached: int = 0

    @property
    def finish(self) -> str:
        """Why it has ended. What is held to a constraint is whole, wherever it ends."""
        return "stop" if self.writing.stopped or self.request.constraint is not None else "length"


def asked(
    served: Served,
    body: Common,
    prompts: Sequence[Prompt],
    length: int | None,
    field: str,
    top: int | None = None,
    suffix: Prompt | None = None,
    held: Constraint | None = None,
) -> list[Ask]:
    """The rows: ``n`` for every prompt. ``Refused`` names the field that is wrong.

    length: new tokens; None: as many as fit. field: what the prompts are called. top: log-probabilities are wanted,
    and those of so many alternatives. suffix: what follows the new tokens. held: what they match.
    """
    count = body.n or 1
    if count * len(prompts) > ROWS:
        raise Refused(f"{len(prompts)} prompts with n = {count} are more than {ROWS} answers; ask for fewer", "n")
    room = max(1, served.service.capacity)
    if count * len(prompts) > room:
        raise Refused(
            f"{count * len(prompts)} answers are more than the engine takes at once ({room}); ask for fewer",
            "n" if count > 1 else field,
        )
    name = "max_completion_tokens" if getattr(body, "max_completion_tokens", None) is not None else "max_tokens"
    model, settings = decoding(served, body)
    system = None if model.system is served.model.system else model.system.name
    stops, bias = stop_texts(body), biases(served, body)
    if held is not None and stops:
        raise Refused("stop may cut a text before it matches what it is held to; leave one of them out", "stop")
    if suffix is not None and not served.infills(model):
        raise Refused(f"{model.system.name} cannot fill a gap; leave suffix out, or use a diffusion model", "suffix")
    seed = secrets.randbits(62) if body.seed is None else body.seed
    ends = () if suffix is not None else model.checkpoint.stop_token_ids
    drafts = bool(body.drafts)
    found = []
    for prompt in prompts:
        known = len(prompt.ids) + (0 if suffix is None else len(suffix.ids))
        new = _length(served, model, known, length, field, name)
        row, start, places = list(prompt.ids), len(prompt.ids), None
        if suffix is not None:
            row, start, places = model.gap(prompt.ids, suffix.ids, new)
        elif not row and model.parts.process.shift and new:
            raise Refused(f"{field} is empty; this model continues at least one token", field)
        for number in range(count):
            request = Request(
                tuple(row),
                0 if suffix is not None else new,
                system,
                settings,
                (seed + number + 2**63) % 2**64 - 2**63,
                ends,
                held,
                bias,
                top is not None or drafts,
                top or 0,
                drafts,
                places,
            )
            found.append(Ask(request, prompt, start, Writing(model.tokenizer, start, ends, stops, new)))
    return found


def _length(served: Served, model: Model, known: int, length: int | None, field: str, name: str) -> int:
    """How many tokens are new, if they fit. name: of the field that says so."""
    size, context = model.parts.layout.size, served.context
    room = context // size * size - known
    if room < (length or 0) or (length is None and room < 1):
        blocks = "" if size == 1 else f", in blocks of {size}"
        raise Refused(
            f"{served.name} reads at most {context} tokens{blocks}; {known} of the prompt and "
            f"{1 if length is None else length} new ones are more; shorten the prompt, or ask for fewer tokens",
            name if room > 0 else field,
            "context_length_exceeded",
        )
    return room if length is None else length


def decoding(served: Served, body: Common) -> tuple[Model, dict[str, Any]]:
    """The model under the system and the settings that are asked for, and these settings."""
    model = served.model
    if body.system is not None:
        try:
            model = model.under(body.system)
        except InterlaceError as error:
            raise refusal(error, "system") from None
    extra = body.model_extra or {}
    known = {name: field for name, field in type(model.settings).model_fields.items() if name not in HIDDEN}
    for name in extra:
        if name not in known:
            words = [*known, *type(body).model_fields]
            raise Refused(f"unknown field {name[:80]!r}; {nearest(name[:80], words)}", name[:80], "unknown_parameter")
    top_k = None if body.top_k is None else max(0, body.top_k)
    named = {"temperature": body.temperature, "top_p": body.top_p, "top_k": top_k}
    settings = {name: value for name, value in {**named, **extra}.items() if value is not None}
    for name, value in settings.items():
        if name != "top_k" and isinstance(value, int) and value > served.context:
            raise Refused(f"{name} is {value}; pass at most {served.context}", name, "invalid_value")
        try:
            type(model.settings).model_validate(model.settings.model_dump() | {name: value}, strict=True)
            model.with_(**{name: value})
        except ValidationError as error:
            raise Refused(amiss(name, error.errors(include_url=False)[0]), name, "invalid_value") from None
        except InterlaceError as error:
            raise refusal(error, name) from None
    settings = served.sampling | settings
    try:
        changed = model.with_(**settings)
        _ = changed.parts
    except InterlaceError as error:
        raise refusal(error, next(iter(settings), None)) from None
    return changed, settings


def wanted(body: Common) -> Wanted | None:
    """What the new text must match, if anything; it is yet to be made."""
    said, pattern = body.response_format, body.regex
    kind = None if said is None else said.get("type")
    field = "regex" if pattern is not None else "response_format"
    try:
        if said is not None and kind not in ("text", "json_object", "json_schema"):
            raise SettingError(f"response_format.type is {str(kind)[:40]!r}; pass text, json_object or json_schema")
        if said is not None and kind != "text" and pattern is not None:
            raise SettingError("regex and response_format exclude each other; pass one of them")
        if pattern is not None:
            return Wanted(partial(regex, pattern), field)
        if kind == "json_object":
            return Wanted(partial(Constraint, JSON_OBJECT.pattern, JSON_OBJECT.name), field)
        if said is None or kind != "json_schema":
            return None
        inside = said.get("json_schema")
        schema = inside.get("schema") if isinstance(inside, dict) else None
        if not isinstance(schema, dict):
            raise SettingError("response_format.json_schema.schema is missing; pass a JSON schema")
        return Wanted(partial(json_schema, schema), field)
    except InterlaceError as error:
        raise refusal(error, field) from None


def stop_texts(body: Common) -> tuple[str, ...]:
    """The texts before which an answer ends."""
    given = body.stop
    found = (given,) if isinstance(given, str) else tuple(given or ())
    if len(found) > STOPS or any(not 0 < len(one) <= STOP_LENGTH for one in found):
        raise Refused(f"stop is up to {STOPS} texts of 1 to {STOP_LENGTH} characters", "stop")
    return found


def biases(served: Served, body: Common) -> dict[int, float]:
    """What is added to the logits of which tokens."""
    vocabulary, found = served.model.checkpoint.config.vocab_size, {}
    for key, value in (body.logit_bias or {}).items():
        if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) < vocabulary):
            raise Refused(f"logit_bias names the token {key[:40]!r}; pass ids from 0 to {vocabulary - 1}", "logit_bias")
        if not -100 <= value <= 100:
            raise Refused(f"logit_bias of {key} is {value}; pass -100 to 100", "logit_bias")
        found[int(key)] = float(value)
    if len(found) > BIASES:
        raise Refused(f"logit_bias names {len(found)} tokens; pass up to {BIASES}", "logit_bias")
    return found
