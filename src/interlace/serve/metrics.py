"""Metrics in Prometheus' text, under the names that dashboards of vLLM know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from ..engine import Stats
    from ..writing import Writing
    from .served import Served

__all__ = ["Counts", "Metrics"]

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
LONG = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
PER_FORWARD = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 32.0)
OF_ENGINE = (
    ("num_requests_running", "gauge", "requests that share the forwards now", lambda s: s.running),
    ("num_requests_waiting", "gauge", "requests that wait for memory", lambda s: s.waiting),
    ("num_requests_paused", "gauge", "requests whose clients take nothing", lambda s: s.paused),
    ("kv_cache_usage_perc", "gauge", "share of the memory in use, 0 to 1", lambda s: s.slots_used / max(1, s.slots)),
    ("gpu_cache_usage_perc", "gauge", "the same, as it was called", lambda s: s.slots_used / max(1, s.slots)),
    ("kv_cache_slots", "gauge", "tokens that the memory holds", lambda s: s.slots),
    ("kv_cache_slots_used", "gauge", "tokens that it holds for requests under way", lambda s: s.slots_used),
    ("prefix_cache_queries", "counter", "prompt tokens looked up in memory", lambda s: s.prompt_tokens),
    ("prefix_cache_hits", "counter", "prompt tokens found in memory", lambda s: s.cached_tokens),
    ("num_preemptions", "counter", "rows that gave their memory back for a while", lambda s: s.preemptions),
    ("forwards", "counter", "network calls", lambda s: s.forwards),
    ("moves", "counter", "moves of the engine", lambda s: s.moves),
    ("row_moves", "counter", "moves of single rows", lambda s: s.row_moves),
    ("blocks", "counter", "units that became clean", lambda s: s.units),
    ("tokens_per_forward", "gauge", "new tokens per move of a row, so far", lambda s: _ratio(s.tokens, s.row_moves)),
    ("moves_per_block", "gauge", "moves of a row per unit made clean, so far", lambda s: _ratio(s.row_moves, s.units)),
)  # fmt: skip
"""What is read off ``Stats``: (name, kind, meaning, value)."""


FOUND = (
    "prompt", "tokens", "first", "between", "unit", "whole", "prompts", "lengths", "speed", "output", "queue",
    "prefill", "decode", "most",
)  # fmt: skip


def _ratio(one: int, other: int) -> float:
    return one / other if other else 0.0


class Metrics:
    """What requests have done, and where the engines stand. ``prefix``: what stands before every name, and a colon."""

    def __init__(self, models: Sequence[Served], prefix: str = "interlace") -> None:
        self.registry = registry = CollectorRegistry()

        def histogram(name: str, about: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"{prefix}:{name}", about, ["model_name"], buckets=buckets, registry=registry)

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"{prefix}:{name}", about, ["model_name", *labels], registry=registry)

        self._prompt = counter("prompt_tokens", "tokens of prompts")
        self._tokens = counter("generation_tokens", "new tokens")
        self._success = counter("request_success", "answers, by why they ended", "finished_reason")
        self._first = histogram("time_to_first_token_seconds", "until the first tokens of an answer", SHORT + LONG[11:])
        self._between = histogram("inter_token_latency_seconds", "per token, from one unit to the next", SHORT)
        self._output = histogram("time_per_output_token_seconds", "the same, as it was called", SHORT)
        self._queue = histogram("request_queue_time_seconds", "until a request's first turn", LONG)
        self._prefill = histogram("request_prefill_time_seconds", "from there to its first tokens", LONG)
        self._decode = histogram("request_decode_time_seconds", "from there to its end", LONG)
        self._most = histogram("request_max_num_generation_tokens", "new tokens of a request's longest answer", COUNTS)
        self._unit = histogram("inter_unit_latency_seconds", "from one unit to the next", SHORT)
        self._whole = histogram("e2e_request_latency_seconds", "of whole answers", LONG)
        self._prompts = histogram("request_prompt_tokens", "tokens of a prompt", COUNTS)
        self._lengths = histogram("request_generation_tokens", "new tokens of an answer", COUNTS)
        self._speed = histogram("request_tokens_per_forward", "new tokens of an answer per forward", PER_FORWARD)
        registry.register(_Engines(models, prefix))
        ProcessCollector(registry=registry)
        self._of = {served.name: Counts(served.name, self) for served in models}

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)

    def of(self, name: str) -> Counts:
        """Those of one model."""
        return self._of[name]


class Counts:
    """The metrics of one model. Finding one by its labels takes longer than counting: they are found once."""

    prompt: Counter
    tokens: Counter
    first: Histogram
    between: Histogram
    unit: Histogram
    whole: Histogram
    prompts: Histogram
    lengths: Histogram
    speed: Histogram
    output: Histogram
    queue: Histogram
    prefill: Histogram
    decode: Histogram
    most: Histogram

    def __init__(self, name: str, metrics: Metrics) -> None:
        for field in FOUND:
            setattr(self, field, getattr(metrics, f"_{field}").labels(name))
        self.success = {reason: metrics._success.labels(name, reason) for reason in ("stop", "length", "abort")}

    def began(self, prompts: Sequence[int]) -> None:
        """Rows with prompts of so many tokens."""
        for tokens in prompts:
            self.prompt.inc(tokens)
            self.prompts.observe(tokens)

    def wrote(self, tokens: int, seconds: float, waited: float | None = None) -> None:
        """So many tokens of a row at once, so long after those before them; the first ones after the request, which
        ``waited`` so long for its turn."""
        self.tokens.inc(tokens)
        if waited is not None:
            self.first.observe(seconds)
            self.queue.observe(waited)
            self.prefill.observe(max(0.0, seconds - waited))
            return
        self.unit.observe(seconds)
        for _ in range(tokens):
            self.between.observe(seconds / tokens)
            self.output.observe(seconds / tokens)

    def finished(self, reason: str, writing: Writing, seconds: float, decoding: float | None) -> None:
        """A row, and why. decoding: since its first tokens, if there were any."""
        self.success[reason].inc()
        self.whole.observe(seconds)
        if decoding is not None:
            self.decode.observe(decoding)
        self.lengths.observe(len(writing.tokens))
        if writing.forwards:
            self.speed.observe(len(writing.tokens) / writing.forwards)


    def ended(self, rows: Sequence[Writing]) -> None:
        """A request, with all its rows."""
        self.most.observe(max((len(writing.tokens) for writing in rows), default=0))


class _Engines(Collector):
    """Where the engines stand when the page is read."""

    def __init__(self, models: Sequence[Served], prefix: str) -> None:
        self._models, self._prefix = models, prefix

    def collect(self) -> Iterable[Metric]:
        stats: dict[str, Stats] = {served.name: served.service.stats() for served in self._models}
        for name, kind, about, value in OF_ENGINE:
            family = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
            found = family(f"{self._prefix}:{name}", about, labels=["model_name"])
            for model, one in stats.items():
                found.add_metric([model], value(one))
            yield found

    def describe(self) -> Iterable[Metric]:
        return ()
