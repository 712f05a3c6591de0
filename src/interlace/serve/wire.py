"""JSON over the wire: bodies that are sound, answers that every parser reads, errors as OpenAI writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ..errors import BusyError, EngineError, InterlaceError

__all__ = ["DEPTH", "Refused", "dumps", "parse", "refusal"]

DEPTH = 64
"""Deeper nesting of a body is refused."""
INTEGER = 2**63


class Refused(Exception):
    """An answer that is an error: ``{"error": {"message", "type", "param", "code"}}`` with an HTTP status.

    param: the field that is wrong. code: a word for programs.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """OpenAI's word for the kind of error."""
        words = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 504: "timeout_error"}
        return words.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def refusal(error: InterlaceError, param: str | None = None) -> Refused:
    """What a client is told of an error of the library.

    >>> from interlace.errors import SettingError
    >>> refusal(SettingError("row 0: the prompt is empty; pass some"), "prompt").body["error"]["message"]
    'the prompt is empty; pass some'
    """
    text = " ".join(str(error).split()).removeprefix("row 0: ")
    if isinstance(error, BusyError):
        return Refused(text, code="too_many_requests", status=429, headers={"Retry-After": "1"})
    if isinstance(error, EngineError):
        return Refused(text, code="engine_error", status=500)
    return Refused(text, param)


def parse(body: bytes) -> dict[str, Any]:
    """The object that a body holds. ``Refused`` for what is no JSON object, or not one that can be worked with.

    JSON alone: no NaN, no infinity (nor a number that overflows to it), integers of 64 bits, text that UTF-8 can
    express, at most ``DEPTH`` levels.

    >>> parse(b'{"seed": 7}')
    {'seed': 7}
    """
    try:
        found = json.loads(body.decode("utf-8-sig"), parse_constant=float, parse_int=_integer)
    except UnicodeDecodeError:
        raise Refused("the body is not UTF-8; send JSON in UTF-8", code="invalid_json") from None
    except RecursionError:
        raise Refused(f"the body is nested too deeply; use at most {DEPTH} levels", code="invalid_json") from None
    except ValueError as error:
        why = " ".join(str(error).split())[:200]
        raise Refused(f"the body is not JSON ({why}); correct it", code="invalid_json") from None
    if not isinstance(found, dict):
        raise Refused("the body is not a JSON object; send {...}", code="invalid_json")
    _sound(found)
    return found


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= 20 else INTEGER  # which is too large, too


def _sound(value: Any) -> None:
    """Refuse what json reads but nobody can use; without recursion. A number is found with the field it stands in."""
    level: list[tuple[Any, str | None]] = [(value, None)]
    for _ in range(DEPTH):
        inner: list[tuple[Any, str | None]] = []
        for one, field in level:
            if isinstance(one, dict):
                inner += [(name, field) for name in one]
                inner += [(each, name if field is None else field) for name, each in one.items()]
            elif isinstance(one, list):
                inner += [(each, field) for each in one]
            elif isinstance(one, str):
                if not one.isascii() and any("\ud800" <= letter <= "\udfff" for letter in one):
                    raise Refused("the body holds a lone surrogate, which UTF-8 cannot express", code="invalid_json")
            elif isinstance(one, float) and not math.isfinite(one):
                raise Refused(f"{(field or '')[:80]} holds a number that is not finite", field, "invalid_json")
            elif isinstance(one, int) and not -INTEGER <= one < INTEGER:
                raise Refused(f"{(field or '')[:80]} holds an integer of more than 64 bits", field, "invalid_json")
        if not inner:
            return
        level = inner
    raise Refused(f"the body is nested too deeply; use at most {DEPTH} levels", code="invalid_json")


def dumps(value: Any) -> bytes:
    """One line of ASCII: no line end of any alphabet, no half surrogate that could not be sent, no NaN."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
