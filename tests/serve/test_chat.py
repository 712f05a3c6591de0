"""POST /v1/chat/completions: the model's chat template, and what stands in for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from interlace.engine import Engine, Service
from interlace.errors import SettingError
from interlace.model import Model
from interlace.serve.bodies import Message
from interlace.serve.served import Served
from interlace.worlds.tokenizer import decode, encode

PATH = "/v1/chat/completions"
Ask = Callable[..., Any]
USER = {"role": "user", "content": "def area("}


def text_of(model: Model, ids: list[int], length: int) -> str:
    return decode(model.tokenizer, model.complete(ids, length).content.tolist(), skip_special=True)


def test_the_template_is_rendered_as_transformers_does(services: list[Served], twin: Model) -> None:
    from transformers import PreTrainedTokenizerFast

    turns = [
        {"role": "system", "content": "Be short."}, USER, {"role": "assistant", "content": "x"}, USER,
    ]  # fmt: skip
    known = PreTrainedTokenizerFast(tokenizer_object=twin.tokenizer)
    template = twin.checkpoint.tokenizer_files["chat_template.jinja"].decode()
    text = known.apply_chat_template(turns, chat_template=template, tokenize=False, add_generation_prompt=True)
    ids, told = services[0].conversation([Message(**turn) for turn in turns])
    assert told == text
    assert ids == encode(twin.tokenizer, text, allow_special=True) and 2 in ids, "special tokens are tokens"


def test_an_answer(ask: Ask, stream: Ask, services: list[Served], twin: Model) -> None:
    ids, _ = services[0].conversation([Message(**USER)])
    expected = text_of(twin, ids, 20)
    told = ask(PATH, {"messages": [USER], "max_tokens": 20}).json()
    assert told["object"] == "chat.completion" and told["id"].startswith("chatcmpl-")
    assert told["choices"][0]["message"] == {"role": "assistant", "content": expected, "refusal": None}
    assert told["usage"]["prompt_tokens"] == len(ids)
    parts = [{"type": "text", "text": "def "}, {"type": "text", "text": "area("}]
    again = ask(PATH, {"messages": [{"role": "user", "content": parts}], "max_completion_tokens": 20}).json()
    assert again["choices"] == told["choices"]
    chunks = stream(PATH, {"messages": [USER], "max_tokens": 20})
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    assert "".join(delta.get("content", "") for delta in deltas) == expected
    assert chunks[-1]["choices"][0]["finish_reason"] == told["choices"][0]["finish_reason"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_without_a_length_the_context_is_the_limit(ask: Ask, services: list[Served]) -> None:
    ids, _ = services[0].conversation([Message(**USER)])
    told = ask(PATH, {"messages": [USER], "logit_bias": {}}).json()
    if told["choices"][0]["finish_reason"] == "length":
        assert told["usage"]["completion_tokens"] == 256 - len(ids)
    assert told["usage"]["total_tokens"] <= 256


def test_log_probabilities(ask: Ask, stream: Ask, services: list[Served], twin: Model) -> None:
    body = {"messages": [USER], "max_tokens": 12, "logprobs": True}
    told = ask(PATH, body).json()["choices"][0]["logprobs"]["content"]
    ids, _ = services[0].conversation([Message(**USER)])
    found = twin.complete(ids, 12, details=True)
    assert found.log_prob is not None
    assert [one["logprob"] for one in told] == pytest.approx(found.log_prob.tolist(), abs=1e-4)
    whole = ask(PATH, body).json()["choices"][0]["message"]["content"]
    assert bytes(byte for one in told for byte in one["bytes"]).decode("utf-8", "replace") == whole
    streamed = [
        one
        for chunk in stream(PATH, body)
        for one in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == told


def test_an_assistants_turn_at_the_end_goes_on(services: list[Served]) -> None:
    _, text = services[0].conversation([Message(**USER), Message(role="assistant", content="wid")])
    assert text.endswith("<|im_start|>assistant\nwid")


def test_a_model_without_a_template_is_given_the_texts(ask: Ask, base: Model) -> None:
    turns = [{"role": "system", "content": "Be short."}, USER]
    told = ask(PATH, {"model": "base", "messages": turns, "max_tokens": 8}).json()
    ids = base.encode("Be short.\n\ndef area(")
    assert told["choices"][0]["message"]["content"] == text_of(base, ids, 8)


def test_a_server_may_refuse_conversations(base: Model) -> None:
    service = Service(Engine(base))
    try:
        with pytest.raises(SettingError, match="/v1/completions"):
            Served("base", base, service, "none").conversation([Message(**USER)])
    finally:
        service.close()


def test_drafts(stream: Ask) -> None:
    choices = [chunk["choices"][0] for chunk in stream(PATH, {"messages": [USER], "max_tokens": 8, "drafts": True})]
    units = [choice for choice in choices if "unit" in choice]
    assert units and all(choice["delta"]["content"] == "" for choice in units if not choice["unit"]["clean"])


def test_what_is_refused(refused: Ask) -> None:
    def no(body: dict[str, Any], param: str | None) -> dict[str, Any]:
        return dict(refused({"messages": [USER]} | body, param, PATH))

    assert "the chat template" in no({"messages": [USER, {"role": "system", "content": "x"}]}, "messages")["message"]
    no({"messages": []}, "messages")
    no({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role")
    no({"messages": [USER, {"role": "user"}]}, "messages[1].content")
    no({"messages": [{"role": "user", "content": None}]}, "messages[0].content")
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    no({"messages": [{"role": "user", "content": [picture]}]}, "messages[0].content")
    no({"messages": [USER | {"tool_calls": [{}]}]}, "messages[0].tool_calls")
    no({"messages": [USER | {"colour": "red"}]}, "messages[0].colour")
    no({"max_tokens": 0}, "max_tokens")
    no({"max_tokens": 4, "max_completion_tokens": 4}, "max_tokens")
    no({"top_logprobs": 2}, "top_logprobs")
    no({"tools": [{"type": "function"}]}, "tools")
    no({"tool_choice": "required"}, "tool_choice")
    no({"reasoning_effort": "high"}, "reasoning_effort")
    no({"prompt": "x"}, "prompt")
    no({"suffix": "x"}, "suffix")
    no({"max_tokens": 250}, "max_tokens")
    assert refused({"messages": [USER | {"content": "x" * 400}]}, "messages", PATH)["code"] == "context_length_exceeded"


def test_neutral_values_of_what_is_not_supported(ask: Ask) -> None:
    turns = [USER, {"role": "assistant", "content": "x", "refusal": None, "tool_calls": [], "annotations": []}, USER]
    plain = ask(PATH, {"messages": turns, "max_tokens": 8}).json()["choices"]
    neutral = {
        "tools": [], "tool_choice": "none", "parallel_tool_calls": True, "modalities": ["text"], "store": False,
        "service_tier": "auto", "audio": None, "logprobs": False, "top_logprobs": None, "metadata": None,
        "prompt_cache_key": "x", "safety_identifier": "y", "reasoning_effort": None, "functions": [],
    }  # fmt: skip
    assert ask(PATH, {"messages": turns, "max_tokens": 8, **neutral}).json()["choices"] == plain
