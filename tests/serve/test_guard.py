"""Keys, origins, request ids, lines of the log, metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from interlace.serve.desk import Limits
from interlace.serve.guard import Lines, has_key
from interlace.serve.run import named

Ask = Callable[..., Any]
LOCKED = Limits(keys=("first", "sécond"))
BODY = {"prompt": "x", "max_tokens": 1}
COMPLETIONS = "/v1/completions"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer firs", "Bearer firsts", "Basic first"])
def test_without_the_key_nothing_is_told(ask: Ask, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path, body in ((COMPLETIONS, BODY), ("/v1/models", None), ("/metrics", None), ("/openapi.json", None)):
        answer = ask(path, body, limits=LOCKED, headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"


def test_with_a_key_all_is_told_and_without_it_that_the_server_runs(ask: Ask) -> None:
    for key in LOCKED.keys:
        headers = {"Authorization": f"Bearer {key}".encode()}
        assert ask(COMPLETIONS, BODY, limits=LOCKED, headers=headers).status_code == 200
    assert ask("/health", limits=LOCKED).status_code == ask("/ready", limits=LOCKED).status_code == 200


def test_keys() -> None:
    assert has_key("anything", ()) and has_key("a", ("b", "a")) and not has_key("", ("a",))


def test_pages_of_named_origins_may_ask(ask: Ask) -> None:
    limits = Limits(origins=("https://here.example",), keys=("k",))
    names = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-retry-count,x-stainless-runtime"
    asked = {
        "Origin": "https://here.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": names,  # what OpenAI's client for JavaScript asks for
    }
    asked["Access-Control-Request-Headers"] = "authorization,content-type"
    allowed = ask(COMPLETIONS, method="OPTIONS", limits=limits, headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://here.example"
    other = ask(COMPLETIONS, method="OPTIONS", limits=limits, headers=asked | {"Origin": "https://there.example"})
    assert "access-control-allow-origin" not in other.headers
    refused = ask(COMPLETIONS, BODY, limits=limits, headers={"Origin": "https://here.example"})
    assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == "https://here.example"
    assert "access-control-allow-origin" not in ask(COMPLETIONS, BODY, headers={"Origin": "https://x.example"}).headers


def test_request_ids(ask: Ask) -> None:
    own = ask(COMPLETIONS, BODY, headers={"X-Request-Id": "abc-1.2_3"})
    assert own.headers["x-request-id"] == "abc-1.2_3" and own.json()["id"] == "cmpl-abc-1.2_3"
    for bad in ("a b", "x" * 65, 'a"b', "a{}", ""):
        found = ask("/health", headers={"X-Request-Id": bad}).headers["x-request-id"]
        assert found != bad and len(found) == 32
    assert ask("/nothing").headers["x-request-id"] != ask("/nothing").headers["x-request-id"]


def test_a_request_is_one_line_whatever_it_says(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "interlace.serve"):
        ask('/v1/models/%0a%0d{"level":"critical"}%e2%80%a8%00', headers={"X-Request-Id": "me"})
        ask(COMPLETIONS, BODY | {"model": 'a\n{"event": "fake"}'})
        ask(COMPLETIONS, BODY)
    lines = [Lines().format(record) for record in caplog.records if record.name == "interlace.serve"]
    assert len(lines) == 3 and all(len(line.splitlines()) == 1 and line.isascii() for line in lines)
    found = [json.loads(line) for line in lines]
    assert [one["event"] for one in found] == ["request"] * 3
    assert [one["status"] for one in found] == [404, 404, 200]
    assert found[0]["id"] == "me" and "\n" in found[0]["path"]
    assert found[2]["model"] == "twin" and found[2]["tokens"] == 1 and found[2]["prompt_tokens"] == 1


def test_a_failure_leaves_its_trace_on_one_line(
    ask: Ask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a secret\nof the server")

    monkeypatch.setattr("interlace.serve.completions.asked", broken)
    answer = ask(COMPLETIONS, BODY)
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.json()["error"]["type"] == "server_error" and answer.headers["x-request-id"]
    (line,) = [Lines().format(one) for one in caplog.records if one.name == "interlace.serve" and one.exc_info]
    assert "a secret" in json.loads(line)["trace"] and len(line.splitlines()) == 1


def test_metrics(ask: Ask, services: Any) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    def read(**more: Any) -> dict[tuple[str, str], float]:
        page = ask("/metrics", **more)
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/plain")

        def labels(sample: Any) -> str:
            return "".join(sample.labels.get(name, "") for name in ("model_name", "finished_reason", "le"))

        return {
            (sample.name, labels(sample)): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
        }

    before = read()
    told = ask(COMPLETIONS, {"prompt": "def area(", "max_tokens": 9, "model": "base", "n": 2}).json()["usage"]
    after = read()

    def more(name: str, labels: str = "base") -> float:
        return after["interlace:" + name, labels] - before.get(("interlace:" + name, labels), 0.0)

    assert more("generation_tokens_total") == told["completion_tokens"]
    assert more("prompt_tokens_total") == 2 * told["prompt_tokens"]
    assert more("request_success_total", "baselength") + more("request_success_total", "basestop") == 2
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_tokens_per_forward"):
        assert more(f"{name}_count") == 2
    assert more("inter_token_latency_seconds_count") == told["completion_tokens"] - 2
    assert more("time_per_output_token_seconds_count") == told["completion_tokens"] - 2
    for part in ("queue", "prefill", "decode"):
        assert more(f"request_{part}_time_seconds_count") == 2
    parts = sum(more(f"request_{part}_time_seconds_sum") for part in ("queue", "prefill", "decode"))
    assert 0 < parts <= more("e2e_request_latency_seconds_sum") + 1e-6
    assert more("request_max_num_generation_tokens_count") == 1
    assert more("request_max_num_generation_tokens_sum") <= told["completion_tokens"]
    assert after["interlace:gpu_cache_usage_perc", "base"] == after["interlace:kv_cache_usage_perc", "base"]
    assert after["interlace:kv_cache_slots", "base"] == services[1].service.slots
    assert after["process_resident_memory_bytes", ""] > 10**6
    names = {name for name, _ in after}
    assert {
        f"interlace:{name}"
        for name in (
            "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prefix_cache_queries_total",
            "prefix_cache_hits_total", "num_preemptions_total", "tokens_per_forward", "moves_per_block",
            "kv_cache_slots", "kv_cache_slots_used",
        )
    } <= names  # fmt: skip
    assert ("vllm:prompt_tokens_total", "base") in read(limits=Limits(metrics_prefix="vllm"))


def test_whoever_watches_may_ask_for_the_head_alone(ask: Ask) -> None:
    for path in ("/health", "/ready"):
        answer = ask(path, method="HEAD")
        assert answer.status_code == 200 and ask(path, method="POST").status_code == 405


def test_the_document_describes_the_bodies(ask: Ask) -> None:
    document = ask("/openapi.json").json()
    schema = document["paths"][COMPLETIONS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"prompt", "max_tokens", "suffix", "drafts", "response_format"} <= set(schema["properties"])
    assert "$ref" not in json.dumps(schema)
    assert "400" in document["paths"][COMPLETIONS]["post"]["responses"]


def test_names_of_models(tmp_path: Any) -> None:
    assert named("twin") == ("twin", "twin") and named("a=b/c") == ("a", "b/c")
    assert named(str(tmp_path / "run" / "model")) == ("model", str(tmp_path / "run" / "model"))
    assert named("Qwen/Qwen3-0.6B") == ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B")
