"""Throughput and latency of the server beside `transformers serve` with continuous batching, on the same weights.

Both servers run on this machine, with the same number of threads, and are asked in turn by the same client: N
requests at once, every one for its own prompt. Ratios are of tokens per second; the block-diffusion twin of the same
base is measured beside them.

    python benchmarks/serving.py --concurrency 1,8,32,64 --tokens 64 --out benchmarks/results/serving.json
    python benchmarks/serving.py --dtype bfloat16 --out benchmarks/results/serving-bfloat16.json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

import interlace
from interlace.model import locate


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, threads: int) -> Iterator[str]:
    """A server as a process of its own; its address."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + 180
        try:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                        break
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    sys.exit(f"{' '.join(command)} did not start:\n{log.read()[-2000:]}")
                time.sleep(0.3)
            yield url
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


async def one(client: httpx.AsyncClient, url: str, model: str, prompt: str, tokens: int) -> dict:
    """One streamed completion: when its pieces came, and how many tokens it had."""
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
    body["stream_options"] = {"include_usage": True}
    began, pieces, count, text = time.perf_counter(), [], 0, ""
    async with client.stream("POST", f"{url}/v1/completions", json=body) as response:
        if response.status_code != 200:
            raise RuntimeError((await response.aread()).decode()[:500])
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if chunk.get("usage"):
                count = chunk["usage"]["completion_tokens"]
            if chunk.get("choices") and chunk["choices"][0].get("text"):
                pieces.append(time.perf_counter() - began)
                text += chunk["choices"][0]["text"]
    return {"pieces": pieces, "tokens": count, "text": text, "seconds": time.perf_counter() - began}


async def load(url: str, model: str, prompts: list[str], tokens: int, at_once: int) -> dict:
    """All prompts, ``at_once`` under way at any time."""
    gate = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=at_once + 4)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:

        async def ask(prompt: str) -> dict:
            async with gate:
                return await one(client, url, model, prompt, tokens)

        await asyncio.gather(*(ask(prompt) for prompt in prompts[:2]))  # warm
        began = time.perf_counter()
        found = await asyncio.gather(*(ask(prompt) for prompt in prompts))
        seconds = time.perf_counter() - began
    first = sorted(row["pieces"][0] for row in found if row["pieces"])
    between = sorted(b - a for row in found for a, b in zip(row["pieces"], row["pieces"][1:], strict=False))
    return {
        "tokens_per_second": sum(row["tokens"] for row in found) / seconds,
        "first_unit_seconds": percentiles(first),
        "between_units_seconds": percentiles(between),
        "texts": [row["text"] for row in found],
    }


def percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    cut = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    return {f"p{p}": round(cut[p - 1], 4) for p in (50, 90, 99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concurrency", default="1,8,32,64")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2, help="requests per place")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--base", default="base")
    parser.add_argument("--twin", default="twin")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    source = Path(interlace.__file__).with_name("model.py").read_text()
    many = [int(n) for n in chosen.concurrency.split(",")]
    most = max(many) * chosen.rounds
    starts = [i * (len(source) - 400) // most for i in range(most)]
    prompts = [source[start : start + 120 + start % 80] for start in starts]

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        base = Path(folder) / "base"
        shutil.copytree(locate(chosen.base), base)
        port, urls = free_port(), {}
        ours = [sys.executable, "-m", "interlace", "serve", f"base={base}", f"twin={locate(chosen.twin)}"]
        url = stack.enter_context(running([*ours, "--port", str(port), "--dtype", chosen.dtype], port, chosen.threads))
        urls["interlace AR"], urls["interlace twin"] = (url, "base"), (url, "twin")
        if not chosen.no_peer:
            port = free_port()
            peer = [str(Path(sys.executable).with_name("transformers")), "serve", str(base), "--continuous-batching"]
            peer += ["--device", "cpu", "--dtype", chosen.dtype, "--port", str(port)]
            url = stack.enter_context(running(peer, port, chosen.threads))
            urls["transformers AR"] = url, str(base)
        results: dict[str, dict[int, dict]] = {name: {} for name in urls}
        for at_once in many:
            for name, (url, model) in urls.items():
                found = asyncio.run(load(url, model, prompts[: at_once * chosen.rounds], chosen.tokens, at_once))
                results[name][at_once] = found
            peer_ = results.get("transformers AR", {}).get(at_once)
            for name in urls:
                row = results[name][at_once]
                ratio = f"{row['tokens_per_second'] / peer_['tokens_per_second']:5.2f}x" if peer_ else ""
                print(
                    f"{at_once:3} at once  {name:16} {row['tokens_per_second']:8.0f} tokens/s {ratio}  first "
                    f"{row['first_unit_seconds']}  between {row['between_units_seconds']}",
                    flush=True,
                )
            if peer_:
                ours_ = results["interlace AR"][at_once]["texts"]
                same = sum(a == b for a, b in zip(ours_, peer_["texts"], strict=True))
                print(f"             the same greedy text in {same} of {len(ours_)}")
    if chosen.out:
        for rows in results.values():
            for row in rows.values():
                del row["texts"]
        about = {"processor": platform.processor() or platform.machine(), "threads": chosen.threads}
        about |= {"dtype": chosen.dtype, "tokens": chosen.tokens, "rounds": chosen.rounds}
        chosen.out.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
