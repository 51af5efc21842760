"""Every route of the API, with what its description allows and what it does not: no answer is a failure of the server.

FUZZ_EXAMPLES=300 python -m pytest tests/serving/test_fuzz.py
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("schemathesis")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4"))


def test_no_request_makes_the_server_fail(start, tmp_path):
    server = start("--max-queue", "5")
    server.create()
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{server.url}/openapi.json",
        "-c",
        "not_a_server_error",
        "--continue-on-failure",
    ]
    command += ["--phases", "coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES), "--generation-deterministic"]
    command += ["--exclude-path", "/v1/events", "--exclude-path", "/health", "--request-timeout", "20", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=3600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "generated" in done.stdout
    assert server.http.get("/health").json() == {"status": "ok"}
    assert server.stop() == 0
    assert "Traceback" not in server.logged(), server.logged()[-4000:]
