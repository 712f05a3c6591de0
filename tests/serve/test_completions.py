"""POST /v1/completions: what is answered is what the model gives, whole or streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from interlace.constraints import json_schema
from interlace.model import Model
from interlace.worlds.tokenizer import END_ID, decode, encode

PATH = "/v1/completions"
Ask = Callable[..., Any]


def text_of(model: Model, prompt: str, length: int, **options: Any) -> str:
    return decode(model.tokenizer, model.complete(prompt, length, **options).content.tolist(), skip_special=True)


@pytest.mark.parametrize("name", ["twin", "base"])
def test_an_answer_is_what_the_model_writes(ask: Ask, name: str, request: Any) -> None:
    model = request.getfixturevalue(name)
    answer = ask(PATH, {"model": name, "prompt": "def area(", "max_tokens": 21}).json()
    assert answer["object"] == "text_completion" and answer["model"] == name
    assert answer["choices"][0]["text"] == text_of(model, "def area(", 21)
    known = len(model.encode("def area("))
    assert answer["usage"]["prompt_tokens"] == known
    assert answer["usage"]["total_tokens"] == known + answer["usage"]["completion_tokens"]


def test_a_stream_is_the_same_text_with_never_half_a_character(ask: Ask, stream: Ask) -> None:
    for seed in range(3):
        body = {"prompt": "def", "max_tokens": 40, "temperature": 1.5, "seed": seed}
        whole = ask(PATH, body).json()
        chunks = stream(PATH, body | {"stream_options": {"include_usage": True}})
        pieces = [chunk["choices"][0]["text"] for chunk in chunks if chunk["choices"]]
        assert "".join(pieces) == whole["choices"][0]["text"]
        assert len(pieces) > 5, "a piece for every unit"
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == whole["usage"]
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
        assert [one["choices"][0]["finish_reason"] for one in chunks[:-1]] == [None] * (len(chunks) - 2) + [
            whole["choices"][0]["finish_reason"]
        ]
        assert len({chunk["id"] for chunk in chunks}) == 1


def test_without_being_asked_a_stream_says_no_usage(stream: Ask) -> None:
    assert all("usage" not in chunk for chunk in stream(PATH, {"prompt": "def", "max_tokens": 5}))


def test_seeds(ask: Ask, twin: Model) -> None:
    body = {"prompt": "def area(", "max_tokens": 12, "temperature": 1.0, "seed": 5, "n": 3}
    texts = [choice["text"] for choice in ask(PATH, body).json()["choices"]]
    assert texts == [text_of(twin.with_(temperature=1.0), "def area(", 12, seed=5 + i) for i in range(3)]
    assert len(set(texts)) == 3
    last = ask(PATH, body | {"seed": 2**63 - 1}).json()
    assert last["choices"][1]["text"] == ask(PATH, body | {"seed": -(2**63), "n": 1}).json()["choices"][0]["text"]


def test_prompts_of_every_kind(ask: Ask, twin: Model) -> None:
    ids = twin.encode("def area(")
    one = ask(PATH, {"prompt": "def area("}).json()["choices"][0]["text"]
    assert ask(PATH, {"prompt": ids}).json()["choices"][0]["text"] == one
    two = ask(PATH, {"prompt": ["def area(", "return"], "n": 2}).json()
    assert [choice["index"] for choice in two["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in two["choices"]] == [one, one, *[text_of(twin, "return", 16)] * 2]
    assert two["usage"]["prompt_tokens"] == len(ids) + len(twin.encode("return"))
    many = ask(PATH, {"prompt": [ids, twin.encode("return")]}).json()["choices"]
    assert [choice["text"] for choice in many] == [one, text_of(twin, "return", 16)]
    # before an empty prompt all masks read alike: which one is the surest is left to rounding
    empty = ask(PATH, {"prompt": "", "reveal": "sequential"}).json()["choices"][0]["text"]
    assert empty == text_of(twin.with_(reveal="sequential"), "", 16)


def test_streamed_choices_do_not_mix(ask: Ask, stream: Ask) -> None:
    body = {"prompt": ["def area(", "return"], "n": 2, "temperature": 1.0, "seed": 3, "max_tokens": 24}
    whole = {choice["index"]: choice["text"] for choice in ask(PATH, body).json()["choices"]}
    told = dict.fromkeys(whole, "")
    for chunk in stream(PATH, body):
        (choice,) = chunk["choices"]
        told[choice["index"]] += choice["text"]
    assert told == whole


def test_echo_and_no_tokens(ask: Ask, stream: Ask) -> None:
    plain = ask(PATH, {"prompt": "naïve 🙂"}).json()["choices"][0]["text"]
    body = {"prompt": "naïve 🙂", "echo": True}
    assert ask(PATH, body).json()["choices"][0]["text"] == "naïve 🙂" + plain
    chunks = stream(PATH, body)
    assert chunks[0]["choices"][0]["text"] == "naïve 🙂"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "naïve 🙂" + plain
    nothing = ask(PATH, body | {"max_tokens": 0}).json()
    assert nothing["choices"][0]["text"] == "naïve 🙂" and nothing["usage"]["completion_tokens"] == 0


def test_stop_texts_are_never_told(ask: Ask, stream: Ask) -> None:
    body = {"prompt": "def area(", "max_tokens": 40, "temperature": 1.0, "seed": 2}
    free = ask(PATH, body).json()["choices"][0]["text"]
    for at in range(3, len(free) - 4, 9):
        stop = free[at : at + 3]
        cut = free[: free.index(stop)]
        whole = ask(PATH, body | {"stop": ["never said", stop]}).json()["choices"][0]
        assert whole["text"] == cut and whole["finish_reason"] == "stop"
        chunks = stream(PATH, body | {"stop": stop})
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == cut
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_log_probabilities(ask: Ask, stream: Ask, twin: Model) -> None:
    body = {"prompt": "def area(", "max_tokens": 12, "logprobs": 0}
    told = ask(PATH, body).json()["choices"][0]
    found = twin.complete("def area(", 12, details=True)
    assert found.log_prob is not None
    assert told["logprobs"]["token_logprobs"] == pytest.approx(found.log_prob.tolist(), abs=1e-4)
    assert len(told["logprobs"]["tokens"]) == len(told["logprobs"]["text_offset"]) == len(found.content)
    assert told["logprobs"]["text_offset"][0] == 0
    streamed: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "text_offset": []}
    for chunk in stream(PATH, body):
        for name, values in streamed.items():
            values += (chunk["choices"][0]["logprobs"] or {}).get(name, [])
    assert streamed == {name: told["logprobs"][name] for name in streamed}


def test_a_gap_is_filled(ask: Ask, stream: Ask, twin: Model) -> None:
    body = {"prompt": "def area(", "suffix": " * height\n    return", "max_tokens": 10}
    told = ask(PATH, body).json()
    expected = twin.infill(body["prompt"], body["suffix"], 10)
    assert told["choices"][0]["text"] == decode(twin.tokenizer, expected.content.tolist(), skip_special=True)
    assert told["usage"]["completion_tokens"] == 10
    assert told["usage"]["prompt_tokens"] == len(twin.encode(body["prompt"])) + len(twin.encode(body["suffix"]))
    chunks = stream(PATH, body)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == told["choices"][0]["text"]


def test_a_suffix_begins_nothing(ask: Ask, twin: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "encode_prompt", lambda self, text: [5, *self.encode(text)])
    told = ask(PATH, {"prompt": "def area(", "suffix": " * height", "max_tokens": 1}).json()
    known = len(twin.encode("def area(")) + len(twin.encode(" * height"))
    assert told["usage"]["prompt_tokens"] == known + 1


def test_drafts(stream: Ask, twin: Model) -> None:
    prompt = "def area("
    chunks = stream(PATH, {"prompt": prompt, "max_tokens": 10, "drafts": True})
    choices = [chunk["choices"][0] for chunk in chunks]
    units = [choice["unit"] for choice in choices if "unit" in choice]
    assert all(set(unit) == {"index", "start", "clean", "level", "forwards", "tokens"} for unit in units)
    assert all(choice["text"] == "" for choice in choices if "unit" in choice and not choice["unit"]["clean"])
    clean = [unit for unit in units if unit["clean"]]
    ids = [token["id"] for unit in clean for token in unit["tokens"]]
    assert ids == twin.complete(prompt, 10, stop=()).content.tolist()[: len(ids)]
    known = len(twin.encode(prompt))
    assert clean[0]["start"] == known and all(unit["start"] >= known for unit in units)
    drafts = [unit for unit in units if not unit["clean"]]
    assert drafts and all(0 < unit["level"] <= 1 for unit in drafts)
    for unit in units:
        for token in unit["tokens"]:
            assert set(token) - {"bytes"} == {"id", "text", "logprob", "order"}
            assert (token["id"] is None) == (token["order"] is None) == (token["logprob"] is None)
    assert [unit["forwards"] for unit in units] == sorted(unit["forwards"] for unit in units)


@pytest.mark.parametrize("model", ["twin", "base"])
def test_the_tokens_of_clean_units_add_up_to_the_text(stream: Ask, model: str) -> None:
    """Their characters are split over units, and stop tokens and stop texts end them anywhere."""
    for seed in range(8):
        body = {"model": model, "prompt": "def", "max_tokens": 60, "temperature": 1.0, "seed": seed, "drafts": True}
        for more in ({}, {"stop": ["r"]}):
            choices = [chunk["choices"][0] for chunk in stream(PATH, body | more)]
            clean = [choice["unit"] for choice in choices if "unit" in choice and choice["unit"]["clean"]]
            told = "".join(token["text"] for unit in clean for token in unit["tokens"])
            said = "".join(choice["text"] for choice in choices)
            # what is left of a character may come behind its unit
            assert told.rstrip("\ufffd") == said.rstrip("\ufffd"), (seed, more)


@pytest.mark.parametrize("system", ["sdar", "llada", "dream", "eoser-ass-cjgrpo", "wedlm", "tidar", "ar"])
def test_tokens_side_by_side_make_the_text_in_whichever_order_they_came(stream: Ask, system: str) -> None:
    """A part of a character is told by its bytes."""
    body = {"prompt": "def", "max_tokens": 60, "temperature": 1.0, "drafts": True, "system": system}
    mixed, put_together = False, 0
    for seed in range(4):
        for more in ({}, {"stop": ["r"]}):
            choices = [chunk["choices"][0] for chunk in stream(PATH, body | more | {"seed": seed})]
            units = [choice["unit"] for choice in choices if "unit" in choice]
            for token in (token for unit in units for token in unit["tokens"]):
                assert "bytes" not in token or not whole(bytes(token["bytes"]))
            clean = [unit for unit in units if unit["clean"]]
            mixed |= clean != sorted(clean, key=lambda unit: unit["start"])
            tokens = [token for unit in sorted(clean, key=lambda unit: unit["start"]) for token in unit["tokens"]]
            spelt = b"".join(bytes(token.get("bytes", token["text"].encode())) for token in tokens)
            told = spelt.decode(errors="replace").replace("\ufffd", "")
            said = "".join(choice["text"] for choice in choices).replace("\ufffd", "")
            assert told.startswith(said) and (more or told == said), (seed, more)
            put_together += told != "".join(token["text"] for token in tokens).replace("\ufffd", "")
    assert mixed == (put_together > 0) == (system in ("llada", "dream", "eoser-ass-cjgrpo", "wedlm"))


def whole(spelt: bytes) -> bool:
    return "\ufffd" not in spelt.decode(errors="replace")


@pytest.mark.parametrize("system", ["sdar", "llada"])
def test_a_special_token_has_no_text_once_it_is_final(stream: Ask, system: str) -> None:
    body = {"prompt": "def", "suffix": " x", "max_tokens": 24, "temperature": 1.0, "drafts": True, "system": system}
    choices = [chunk["choices"][0] for chunk in stream(PATH, body | {"seed": 1, "logit_bias": {str(END_ID): 9}})]
    tokens = [token for one in choices if "unit" in one and one["unit"]["clean"] for token in one["unit"]["tokens"]]
    special = [token for token in tokens if token["id"] == END_ID]
    assert len(special) > 3 and all(token["text"].strip("\ufffd") == "" and "bytes" not in token for token in special)


def test_drafts_of_a_gap_hold_nothing_that_was_given(stream: Ask) -> None:
    body = {"prompt": "def area(", "suffix": " * height\n    return", "max_tokens": 10, "drafts": True}
    clean = [chunk["choices"][0]["unit"] for chunk in stream(PATH, body) if "unit" in chunk["choices"][0]]
    places = {
        unit["start"] + at: token["id"] for unit in clean if unit["clean"] for at, token in enumerate(unit["tokens"])
    }
    assert sorted(places) == list(range(min(places), min(places) + 10))


def test_settings_of_the_decoding(ask: Ask, twin: Model) -> None:
    body = {"prompt": "def area(", "max_tokens": 24}
    fast = ask(PATH, body | {"threshold": 0.0, "reveal": "threshold"}).json()
    assert fast["usage"]["forwards"] < ask(PATH, body).json()["usage"]["forwards"]
    model = twin.with_(threshold=0.0, reveal="threshold")
    assert fast["choices"][0]["text"] == text_of(model, "def area(", 24)
    assert ask(PATH, body | {"steps": 1}).json()["usage"]["forwards"] < 10
    chance = {"reveal": "ancestral", "order_temperature": 0.5, "temperature": 1.0}
    told = ask(PATH, body | chance | {"seed": 3}).json()["choices"][0]["text"]
    assert told == text_of(twin.with_(**chance), "def area(", 24, seed=3)


def test_what_an_answer_is_held_to(ask: Ask, twin: Model) -> None:
    told = ask(PATH, {"prompt": "year = ", "regex": "(19|20)[0-9]{2}", "max_tokens": 8}).json()["choices"][0]["text"]
    assert len(told) == 4 and 1900 <= int(told) < 2100
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    told = ask(PATH, {"prompt": "x = ", "response_format": form, "max_tokens": 20}).json()["choices"][0]["text"]
    assert told == text_of(twin, "x = ", 20, constraint=json_schema(schema))
    assert isinstance(json.loads(told)["n"], int)
    for seed in range(3):
        body = {"prompt": "x = ", "response_format": {"type": "json_object"}, "max_tokens": 40, "temperature": 1.0}
        told = ask(PATH, body | {"seed": seed}).json()["choices"][0]["text"]
        assert isinstance(json.loads(told), dict)
    assert ask(PATH, {"prompt": "x", "response_format": {"type": "text"}}).status_code == 200


def test_neutral_values_of_what_is_not_supported(ask: Ask) -> None:
    neutral = {
        "presence_penalty": 0, "frequency_penalty": 0.0, "best_of": 1, "n": 1, "logit_bias": {}, "logprobs": None,
        "suffix": None, "user": "someone", "metadata": {"a": "b"}, "stop": None, "stream": False, "echo": None,
        "temperature": None, "top_p": None, "seed": None, "system": None, "tools": None, "stream_options": None,
    }  # fmt: skip
    plain = ask(PATH, {"prompt": "def"}).json()["choices"]
    assert ask(PATH, {"prompt": "def", **neutral}).json()["choices"] == plain
    assert ask(PATH, {"prompt": "def", "stop": []}).json()["choices"] == plain


def test_tokens_of_a_prompt_may_be_special(ask: Ask, twin: Model) -> None:
    assert encode(twin.tokenizer, "<|im_end|>") != [3]
    told = ask(PATH, {"prompt": [3, 3], "echo": True, "max_tokens": 0}).json()
    assert told["choices"][0]["text"] == "<|im_end|><|im_end|>"


@pytest.mark.parametrize("model", ["twin", "base"])
def test_the_chosen_token_is_among_the_alternatives(ask: Ask, model: str) -> None:
    for top in (0, 1, 3):
        body = {"prompt": "def area(", "max_tokens": 12, "logprobs": top, "temperature": 1.5, "seed": 3, "model": model}
        told = ask(PATH, body).json()["choices"][0]["logprobs"]
        for token, value, found in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True):
            assert found[token] == value and max(1, top) <= len(found) <= top + 1
            assert top or list(found) == [token]
    chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 12, "logprobs": True, "top_logprobs": 1}
    tokens = ask("/v1/chat/completions", chat | {"temperature": 1.5, "seed": 3, "model": model}).json()
    for one in tokens["choices"][0]["logprobs"]["content"]:
        assert one["logprob"] in [other["logprob"] for other in one["top_logprobs"]] and len(one["top_logprobs"]) <= 2


def test_tokens_found_in_memory_are_told(ask: Ask) -> None:
    body = {"prompt": [7, 9, 11] * 30, "max_tokens": 2, "model": "base"}
    first, second = (ask(PATH, body).json()["usage"]["prompt_tokens_details"]["cached_tokens"] for _ in range(2))
    assert first == 0 < second < 90
    several = ask(PATH, body | {"n": 4}).json()["usage"]
    assert several["prompt_tokens"] == 90 >= several["prompt_tokens_details"]["cached_tokens"] > 0


def test_alternatives(ask: Ask, stream: Ask) -> None:
    body = {"prompt": "def area(", "max_tokens": 8, "logprobs": 3}
    told = ask(PATH, body).json()["choices"][0]["logprobs"]
    assert len(told["tokens"]) == len(told["top_logprobs"])
    for token, value, top in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True):
        assert len(top) == 3 and not any("\ufffd" in name for name in top)
        assert max(top.values()) == pytest.approx(value, abs=1e-5) and token in top, "the likeliest was taken"
    streamed = [
        one for chunk in stream(PATH, body) for one in (chunk["choices"][0]["logprobs"] or {}).get("top_logprobs", [])
    ]
    assert streamed == told["top_logprobs"]
    chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 6, "logprobs": True, "top_logprobs": 2}
    found = ask("/v1/chat/completions", chat).json()["choices"][0]["logprobs"]["content"]
    assert found and all(len(one["top_logprobs"]) == 2 for one in found)
    assert all(one["top_logprobs"][0]["logprob"] == pytest.approx(one["logprob"], abs=1e-5) for one in found)


def test_biases(ask: Ask, twin: Model) -> None:
    body = {"prompt": "def area(", "max_tokens": 8}
    (wanted,) = twin.encode("x")
    forced = ask(PATH, body | {"logit_bias": {str(wanted): 100}}).json()["choices"][0]["text"]
    assert forced == "x" * 8
    free = twin.complete("def area(", 8).content.tolist()
    banned = ask(PATH, body | {"logit_bias": {str(token): -100 for token in free}}).json()["choices"][0]["text"]
    assert banned != decode(twin.tokenizer, free, skip_special=True)
