"""What the OpenAPI document says of an endpoint."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

__all__ = ["described", "error"]

error = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
WHY = {
    "400": "a field is wrong; param names it",
    "401": "the key is missing or wrong",
    "404": "no such model",
    "408": "the body came too slowly",
    "413": "the body is too large",
    "415": "the body is not marked as JSON",
    "429": "too many requests wait; come again after Retry-After seconds",
    "500": "the engine failed",
    "503": "the server is shutting down",
    "504": "the answer took too long",
}


def described(summary: str, body: type[BaseModel] | None = None, kind: str = "application/json") -> dict[str, Any]:
    """Arguments of a route: what it reads and what it answers. kind: the type of an answer without a body."""
    found: dict[str, Any] = {
        "responses": {
            code: {"description": why, "content": {"application/json": {"schema": error}}} for code, why in WHY.items()
        }
    }
    answer: dict[str, Any] = {kind: {"schema": {"type": "object"}} if kind == "application/json" else {}}
    found["responses"]["200"] = {"description": "the answer", "content": answer}
    if body is not None:
        found["responses"]["200"]["description"] = "the answer; with stream, server-sent events of its chunks"
        answer["text/event-stream"] = {}
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _inline(body.model_json_schema())}},
        }
    return {"summary": summary, "openapi_extra": found}


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without references: where it stands nobody could follow them."""
    inner = schema.pop("$defs", {})

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return filled(inner[value["$ref"].rpartition("/")[2]])
            return {key: filled(one) for key, one in value.items()}
        return [filled(one) for one in value] if isinstance(value, list) else value

    found: dict[str, Any] = filled(schema)
    return found
