"""Pipelines in several threads, and the number of threads the operations use."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from hunyuan_video import HunyuanVideoPipeline

RUNS = [{"prompt": "a red star moves left", "seed": 1}, {"prompt": "a blue circle", "seed": 2, "solver": "heun"}]


@pytest.mark.parametrize("shared", [False, True])
def test_two_threads_make_what_each_makes_alone(pipe, checkpoint, shared):
    """Two pipelines, or one that both threads use."""
    other = pipe if shared else HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    alone = [pipe(**run) for run in RUNS]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(entry, **run) for entry, run in zip((pipe, other), RUNS, strict=True)]
        together = [future.result() for future in futures]
    for got, want in zip(together, alone, strict=True):
        assert torch.equal(got.latents, want.latents) and np.array_equal(got.frames, want.frames)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_leaves_the_number_of_threads_as_it_was_set(pipe, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = []
        pipe(**RUNS[0], callback_on_step_end=lambda *_: seen.append(torch.get_num_threads()))
        assert set(seen) == {threads} and torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


COUNT = """
import os, sys, threading
import torch
import hunyuan_ext as ops

def tasks():
    return len(os.listdir("/proc/self/task"))

def torch_work():
    torch.randn(600, 600) @ torch.randn(600, 600)
    torch.nn.functional.layer_norm(torch.randn(4000, 1000), (1000,))

def our_work():
    x, shift, volume = torch.randn(1, 4000, 1000), torch.randn(1, 1000), torch.randn(1, 32, 4, 64, 64)
    q, wide = torch.randn(1, 512, 4, 64), torch.randn(512, 512, dtype=torch.bfloat16)
    for _ in range(3):
        ops.layer_norm_modulate(x, shift, shift), ops.gate_residual(x, x, shift), ops.rope_attention(q, q, q)
        ops.group_norm_silu(volume, None, None, pad=(2, 1, 1)), ops.linear(wide, wide)

if len(sys.argv) > 1:
    torch.set_num_threads(int(sys.argv[1]))
torch_work()
before = tasks()
our_work()
print(torch.get_num_threads(), tasks() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads of a process are counted in /proc")
@pytest.mark.parametrize(("setting", "argument", "threads"), [("2", [], 2), ("2", ["1"], 1), ("1", ["2"], 2)])
def test_kernels_start_no_threads_beyond_those_of_torch(setting, argument, threads):
    """OMP_NUM_THREADS and torch.set_num_threads: kernels work in torch's own pool, whatever its size."""
    path = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", COUNT, *argument]
    environment = os.environ | {"OMP_NUM_THREADS": setting, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(threads), "0"]
