"""Thousands of requests made from the OpenAPI document, well-formed and not: ``-m slow``, with ``st`` (schemathesis)
on the path. ``INTERLACE_FUZZ_EXAMPLES`` and ``INTERLACE_FUZZ_SEED`` make it longer or another one."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"


@pytest.mark.slow
def test_no_request_made_from_the_document_brings_the_server_down(server: Any) -> None:
    program = shutil.which("st")
    if program is None:
        pytest.skip("schemathesis is not installed")
    examples, seed = os.environ.get("INTERLACE_FUZZ_EXAMPLES", "200"), os.environ.get("INTERLACE_FUZZ_SEED", "0")
    done = subprocess.run(
        [
            program, "run", server.url + "/openapi.json", "--checks", CHECKS, "--max-examples", examples,
            "--seed", seed, "--phases", "examples,coverage,fuzzing", "--mode", "all", "--no-color",
            "--exclude-path", "/ready", "--exclude-path", "/health",
        ],
        capture_output=True,
        text=True,
        timeout=3600,
    )  # fmt: skip
    print(done.stdout[-1000:])  # how many there were: -rP shows it
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.post({"max_tokens": 2}).status_code == 200 and server.desk.active == 0
