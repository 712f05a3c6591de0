"""Many clients at once, of whom some leave in the middle: no answer is lost or mixed up, and memory returns.

    python benchmarks/load.py --clients 200 --leave 0.3
    python benchmarks/load.py --clients 32 --seconds 600 --out benchmarks/results/soak.json      # a soak

Every answer is compared with what the model gives to the same request alone. Prints p50, p90 and p99 of the time to
the first unit and of whole answers, the resident memory of the server's processes over time, and what its metrics say
of requests and memory in use at the end. Exits with 1 when an answer is wrong or something is left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from serving import free_port, percentiles, running

import interlace
from interlace.model import Model, locate


def questions(model: Model, count: int, rng: random.Random) -> list[dict[str, Any]]:
    """Requests of many kinds, with what each gives alone."""
    source = Path(interlace.__file__).with_name("model.py").read_text()
    found = []
    for number in range(count):
        start = rng.randrange(len(source) - 400)
        prompt = source[start : start + rng.choice([20, 60, 200, 400])]
        settings = {"temperature": rng.choice([0.0, 0.8]), "threshold": rng.choice([0.9, 0.6])}
        length, seed = rng.choice([8, 24, 48]), number
        alone = model.with_(**settings).complete(prompt, length, seed=seed)
        body = {"model": "twin", "prompt": prompt, "max_tokens": length, "seed": seed, "stream": True} | settings
        found.append({"body": body, "text": model.text(alone.content)})
    return found


class Client:
    """Asks, and perhaps leaves."""

    def __init__(self, url: str, asked: list[dict[str, Any]], leave: float, seed: int) -> None:
        self.url, self.asked, self.leave, self.rng = url, asked, leave, random.Random(seed)
        self.right = self.wrong = self.left = self.failed = 0
        self.first: list[float] = []
        self.whole: list[float] = []

    async def ask(self, client: httpx.AsyncClient) -> None:
        one = self.rng.choice(self.asked)
        leaves = self.rng.randrange(6) if self.rng.random() < self.leave else None
        began, text, pieces = time.perf_counter(), "", 0
        try:
            async with client.stream("POST", f"{self.url}/v1/completions", json=one["body"]) as response:
                if response.status_code != 200:
                    self.failed += 1
                    return
                async for line in response.aiter_lines():
                    if leaves is not None and pieces >= leaves:
                        self.left += 1
                        return
                    if line.startswith("data: ") and line != "data: [DONE]":
                        piece = json.loads(line[6:])
                        if "error" in piece:
                            self.failed += 1
                            return
                        text += piece["choices"][0]["text"] if piece["choices"] else ""
                        pieces += 1
                        if pieces == 1:
                            self.first.append(time.perf_counter() - began)
        except httpx.HTTPError:
            self.failed += 1
            return
        self.whole.append(time.perf_counter() - began)
        if text == one["text"]:
            self.right += 1
        else:
            self.wrong += 1
            print("wrong:", one["body"], repr(text), repr(one["text"]), file=sys.stderr)


def resident(url: str) -> float:
    """MiB of all processes that belong to the server."""
    port = int(url.rsplit(":", 1)[1])
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = status.with_name("cmdline").read_bytes().decode(errors="replace").split("\0")
            if str(port) in command or _child_of(status, port):
                line = next(one for one in status.read_text().splitlines() if one.startswith("VmRSS"))
                total += int(line.split()[1]) / 1024
        except (OSError, StopIteration):
            continue
    return total


def _child_of(status: Path, port: int) -> bool:
    parent = next(one for one in status.read_text().splitlines() if one.startswith("PPid")).split()[1]
    return str(port) in (Path("/proc") / parent / "cmdline").read_bytes().decode(errors="replace").split("\0")


def gauges(url: str) -> dict[str, float]:
    """What is under way, waiting, and in memory."""
    found = {}
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        name = line.partition("{")[0]
        if not line.startswith("#") and any(one in name for one in ("num_requests_", "cache_usage")):
            found[name] = found.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


async def crowd(url: str, chosen: argparse.Namespace, asked: list[dict[str, Any]]) -> dict[str, Any]:
    clients = [Client(url, asked, chosen.leave, seed) for seed in range(chosen.clients)]
    memory = [(0.0, resident(url))]
    began = time.perf_counter()
    limits = httpx.Limits(max_connections=chosen.clients + 4)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:

        async def run(one: Client) -> None:
            await one.ask(client)
            while time.perf_counter() - began < chosen.seconds:
                await one.ask(client)

        async def watch() -> None:
            while True:
                await asyncio.sleep(max(1.0, chosen.seconds / 60))
                memory.append((time.perf_counter() - began, resident(url)))

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(run(one) for one in clients))
        watching.cancel()
    await asyncio.sleep(1)
    memory.append((time.perf_counter() - began, resident(url)))
    return {
        "clients": chosen.clients,
        "seconds": time.perf_counter() - began,
        **{name: sum(getattr(one, name) for one in clients) for name in ("right", "wrong", "left", "failed")},
        "first_unit_seconds": percentiles(sorted(t for one in clients for t in one.first)),
        "answer_seconds": percentiles(sorted(t for one in clients for t in one.whole)),
        "resident_mib": [(round(t, 1), round(mib, 1)) for t, mib in memory],
        "left_behind": gauges(url),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--leave", type=float, default=0.3, help="share of requests whose client leaves")
    parser.add_argument("--seconds", type=float, default=0, help="every client asks again until then")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    asked = questions(interlace.load("twin", dtype="float32"), 48, random.Random(chosen.seed))
    port = free_port()
    command = [sys.executable, "-m", "interlace", "serve", f"twin={locate('twin')}", "--port", str(port)]
    with running([*command, "--dtype", "float32", "--log-level", "error"], port, chosen.threads) as url:
        warm = argparse.Namespace(**vars(chosen) | {"clients": 8, "seconds": 0})
        asyncio.run(crowd(url, warm, asked))
        found = asyncio.run(crowd(url, chosen, asked))
    print(json.dumps(found, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(found) + "\n")
    sys.exit(bool(found["wrong"] or found["failed"] or any(found["left_behind"].values())))


if __name__ == "__main__":
    main()
