"""Pipelines in several threads, and the number of threads the operations use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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
        futures = [pool.submit(one, **run) for one, run in zip((pipe, other), RUNS, strict=True)]
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
