"""A child forked from a process that has worked with several threads gets a line instead of waiting for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# What the parent does first, and what the child tries then. The child ends after 20 seconds at the latest.
PROGRAM = """
import os, signal, sys, torch
from hunyuan_video import HunyuanVideoPipeline, UserError
torch.set_num_threads(2)
pipe = HunyuanVideoPipeline.from_pretrained("tiny")
options = dict(num_frames=1, height=32, width=32, num_inference_steps=1, seed=0)
{parent}
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    try:
        {child}
        print("done", flush=True)
    except UserError as error:
        print(error, flush=True)
    os._exit(0)
print("status", os.waitpid(pid, 0)[1])
"""
SAMPLE = 'pipe("a red ball", **options)'
LOAD = 'HunyuanVideoPipeline.from_pretrained("tiny")'


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    ("parent", "child", "line"),
    [
        (SAMPLE, SAMPLE, "this process was forked from one that had worked with several threads"),
        (SAMPLE, LOAD, "this process was forked from one that had worked with several threads"),
        (SAMPLE, f"torch.set_num_threads(1); {SAMPLE}", "done"),
    ],
)
def test_a_forked_child_does_not_wait(parent, child, line):
    program = PROGRAM.format(parent=parent, child=child)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, env=environment
    )
    first, *_, last = result.stdout.splitlines() or [result.stderr]
    assert first.startswith(line) and last == "status 0"
