"""What is wrong, malformed or hostile gets one error of the 400s that names the field; the server goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlace.serve.desk import Limits

PATH = "/v1/completions"
Ask = Callable[..., Any]

WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[1], "x"]}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [10**6]}, "prompt"),
    ({"prompt": ["x"] * 129}, "n"),
    ({"prompt": "x", "n": 0}, "n"),
    ({"prompt": "x", "n": 129}, "n"),
    ({"prompt": "x", "n": 2.0}, "n"),
    ({"prompt": ["x", "y"], "n": 100}, "n"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": "7"}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 10**18}, "max_tokens"),
    ({"max_tokens": 256}, "max_tokens"),
    ({"prompt": "x" * 300}, "prompt"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"seed": 0.5}, "seed"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", ""]}, "stop"),
    ({"stop": 7}, "stop"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"stop": "x" * 2000}, "stop"),
    ({"stop": "x", "regex": "a"}, "stop"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": 1, "echo": True}, "echo"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, "logit_bias"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
    ({"logit_bias": {"1": "x"}}, "logit_bias.1"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {}}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": ["x"]}}}}, "response_format"),
    ({"response_format": {"type": "json_object"}, "max_tokens": 1}, "response_format"),
    ({"response_format": {"type": "json_object"}, "regex": "x"}, "regex"),
    ({"regex": "("}, "regex"),
    ({"regex": "(?=x)"}, "regex"),
    ({"regex": "a{99999999999999999999}"}, "regex"),
    ({"regex": "((a{100}){100}){100}"}, "regex"),
    ({"regex": "((a{1,1000}){1,1000}){1,1000}"}, "regex"),
    ({"regex": "(a|b)*a(a|b){18}"}, "regex"),
    ({"regex": "(" * 5000 + ")" * 5000}, "regex"),
    ({"regex": "[" * 5000}, "regex"),
    ({"regex": "\\"}, "regex"),
    ({"regex": "a" * 50}, "regex"),
    ({"regex": "([a-z]+ ?){1,200}"}, "regex"),
    ({"system": "llama"}, "system"),
    ({"system": "acdit"}, "system"),
    ({"system": "../../etc/passwd"}, "system"),
    ({"model": "nope"}, "model"),
    ({"model": 5}, "model"),
    ({"block_size": 8}, "block_size"),
    ({"block_size": 0}, "block_size"),
    ({"steps": 0}, "steps"),
    ({"steps": 10**12}, "steps"),
    ({"steps": "4"}, "steps"),
    ({"threshold": -1}, "threshold"),
    ({"threshold": "0.9"}, "threshold"),
    ({"threshold": True}, "threshold"),
    ({"reveal": "best"}, "reveal"),
    ({"reveal": ["static"]}, "reveal"),
    ({"gamma": {}}, "gamma"),
    ({"mask_id": 5}, "mask_id"),
    ({"eos_ids": [5]}, "eos_ids"),
    ({"window": 4}, "window"),
    ({"max_token": 5}, "max_token"),
    ({"__class__": 1}, "__class__"),
    ({"": 1}, ""),
    ({"\n\x00": 1}, "\n\x00"),
    ({"model_config": {}}, "model_config"),
    ({"model_fields": {}}, "model_fields"),
    ({"best_of": 2}, "best_of"),
    ({"presence_penalty": 1}, "presence_penalty"),
    ({"frequency_penalty": -0.5}, "frequency_penalty"),
    ({"frequency_penalty": False}, "frequency_penalty"),
    ({"tools": [1]}, "tools"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": 1}, "stream_options"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"drafts": 1}, "drafts"),
    ({"echo": "no"}, "echo"),
    ({"suffix": 5}, "suffix"),
    ({"suffix": "x" * 300}, "prompt"),
    ({"suffix": "x", "max_tokens": 300}, "max_tokens"),
    ({"user": 5}, "user"),
]


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.parametrize(("body", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_the_field_that_is_wrong_is_named(refused: Ask, body: dict[str, Any], param: str | None) -> None:
    status = 404 if body.get("model") == "nope" else 400
    error = refused({"prompt": "x"} | body, param, status=status)
    assert error["type"] in ("invalid_request_error", "not_found_error")
    assert len(error["message"]) < 1000 and "\n" not in error["message"]


def schemas() -> dict[str, dict[str, Any]]:
    """Small bodies, most of them, that stand for very large expressions."""
    pair = {"type": "array", "minItems": 2, "maxItems": 2}
    chain = {f"d{i}": pair | {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(25)}
    objects = {
        f"d{i}": {"required": ["a", "b"], "properties": {name: {"$ref": f"#/$defs/d{i + 1}"} for name in "ab"}}
        for i in range(25)
    }
    text = {"type": "string"}
    inner = {"type": "array", "maxItems": 100, "items": text | {"maxLength": 50}}
    return {
        "references": {"$ref": "#/$defs/d0", "$defs": chain | {"d25": {"type": "integer"}}},
        "references of objects": {"$ref": "#/$defs/d0", "$defs": objects | {"d25": {"type": "integer"}}},
        "properties": {"properties": {f"p{i}": text for i in range(2000)}},
        "long text": text | {"maxLength": 100_001},
        "lists of lists": {"type": "array", "maxItems": 100, "items": inner},
        "values": {"enum": [f"value number {i}" for i in range(20_000)]},
        "alternatives": {"oneOf": [{"const": i} for i in range(2000)]},
    }


@pytest.mark.parametrize("name", schemas())
def test_schemas_that_stand_for_too_much(refused: Ask, name: str) -> None:
    said = {"type": "json_schema", "json_schema": {"name": "q", "schema": schemas()[name]}}
    message = refused({"prompt": "x", "max_tokens": 40, "response_format": said}, "response_format")["message"]
    assert "more than" in message


def test_an_unknown_field_names_the_nearest(refused: Ask) -> None:
    assert "did you mean max_tokens?" in refused({"prompt": "x", "max-tokens": 1}, "max-tokens")["message"]
    assert "did you mean threshold?" in refused({"prompt": "x", "treshold": 1}, "treshold")["message"]
    assert refused({"prompt": "x", "treshold": 1}, "treshold")["code"] == "unknown_parameter"


def test_what_a_model_cannot(refused: Ask) -> None:
    assert "cannot fill" in refused({"model": "base", "prompt": "x", "suffix": "y"}, "suffix")["message"]
    assert refused({"model": "base", "prompt": ""}, "prompt")["message"]
    refused({"model": "base", "prompt": "x", "system": "sdar"}, "system")
    refused({"prompt": "x", "block_size": 2, "model": "base"}, "block_size")


def test_too_long_is_said_as_openai_says_it(refused: Ask) -> None:
    gap = {"prompt": [5] * 250, "suffix": "aaaaaaaaaa"}
    for body in ({"prompt": "x", "max_tokens": 256}, {"prompt": "x" * 300}, gap):
        param = "max_tokens" if body["prompt"] == "x" else "prompt"
        assert refused(body, param)["code"] == "context_length_exceeded"


NOT_JSON = [
    b"", b" ", b"{", b"[]", b"5", b"null", b'"x"', b"{'prompt': 'x'}", b'{"prompt": "x",}', b"\xff\xfe",
    b'{"prompt": "\xff"}',
    b'{"prompt": "\x00"}', 
    b'{"prompt": "\\ud800"}', b'{"\\udfff": 1, "prompt": "x"}',
    b"[" * 100_000, b'{"a":' * 50_000, b'{"prompt": ' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"prompt": "x"}{"prompt": "y"}', "{\"prompt\": \"x\"}".encode("utf-16"), b"\x1f\x8b\x08\x00", b"prompt=x",
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:24]))
def test_bodies_that_are_no_json(refused: Ask, body: bytes) -> None:
    assert refused(body, None)["code"] == "invalid_json"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, str(2**63), str(-(2**63) - 1)])
def test_numbers_that_nobody_can_use_are_found(refused: Ask, number: str) -> None:
    for body, field in (
        (f'{{"prompt": "x", "seed": {number}}}', "seed"),
        (f'{{"prompt": "x", "logit_bias": {{"5": {number}}}}}', "logit_bias"),
        (f'{{"temperature": [[{number}]], "prompt": "x"}}', "temperature"),
    ):
        assert refused(body.encode(), field)["code"] == "invalid_json"


def test_a_length_that_is_too_large_is_called_by_its_name(refused: Ask) -> None:
    chat = {"messages": [{"role": "user", "content": "x"}]}
    for name in ("max_tokens", "max_completion_tokens"):
        refused(chat | {name: 10**6}, name, "/v1/chat/completions")


def test_parts_that_are_no_text(refused: Ask) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, image]}]}
    message = refused(body, "messages[0].content", "/v1/chat/completions")["message"]
    assert "image_url" in message and "only parts of type text" in message


def test_more_answers_than_the_engine_ever_takes(
    refused: Ask, services: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = services[0].service.engine
    monkeypatch.setattr(engine, "rows", 2)
    monkeypatch.setattr(engine, "most", 1)
    assert "at once (3)" in refused({"prompt": ["x"] * 4, "max_tokens": 1}, "prompt")["message"]
    refused({"prompt": ["x"] * 2, "n": 2, "max_tokens": 1}, "n")


def test_bodies_that_are_marked_as_something_else(refused: Ask) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx", "multipart/form-data"):
        refused(b'{"prompt": "x"}', None, status=415, headers={"Content-Type": kind})


def test_a_byte_order_mark_and_a_charset_are_json(ask: Ask) -> None:
    body = b"\xef\xbb\xbf" + b'{"prompt": "x", "max_tokens": 1}'
    assert ask(PATH, body, headers={"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 200


def test_bodies_that_are_too_large(refused: Ask) -> None:
    limits = Limits(body_bytes=100)
    refused({"prompt": "x" * 200}, None, status=413, limits=limits)
    refused({"prompt": "x"}, None, status=413, limits=limits, headers={"Content-Length": "1" + "0" * 30})


@pytest.mark.parametrize(
    "path",
    ["/v1/../etc/passwd", "/v1/models/../../x", "/v1/models/%2e%2e%2f", "/v1/models/%00", "/v1/models/%ff", "/x", "/%"],
)
def test_paths_that_lead_nowhere(refused: Ask, path: str) -> None:
    refused(None, "model" if path.startswith("/v1/models/%") else None, path, 404)


def test_methods_that_are_not_taken(ask: Ask) -> None:
    for method in ("GET", "PUT", "DELETE", "TRACE", "BREW"):
        answer = ask(PATH, method=method)
        assert answer.status_code == 405 and answer.headers["allow"] == "POST"
        assert answer.json()["error"]["type"] == "invalid_request_error"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([0, 1, "x", "def"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "prompt", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "n", "logprobs", "logit_bias", "echo",
    "response_format", "stream", "stream_options", "suffix", "system", "block_size", "steps", "threshold", "regex",
    "drafts", "model", "reveal", "gamma", "best_of", "user", "tools", "messages",
]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), VALUES, max_size=5), chat=st.booleans())
def test_no_body_brings_the_server_down(ask: Ask, body: dict[str, Any], chat: bool) -> None:
    given = {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}
    answer = ask("/v1/chat/completions" if chat else PATH, json.dumps({**given, "max_tokens": 2, **body}).encode())
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
