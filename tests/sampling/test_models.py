"""Loaded models as an object of their own: several runs share it, and none notices the others."""

from __future__ import annotations

import threading

import pytest
import torch

from hunyuan_video import Finished, HunyuanVideoPipeline
from hunyuan_video.sampling import LoadedModels
from hunyuan_video.sampling.request import SampleRequest
from hunyuan_video.sampling.run import SampleStream

RUNS = (
    SampleRequest("a red circle moves right", seed=3, output_type="pt", solver="ab2"),
    SampleRequest("a star", height=64, width=32, seed=4, num_videos_per_prompt=2, true_cfg_scale=1.0, output_type="pt"),
    SampleRequest("a star", seed=5, num_inference_steps=3, output_type="pt", solver="lcm"),
)


@pytest.fixture(scope="module")
def models(checkpoint):
    return LoadedModels.from_pretrained(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def alone(checkpoint):
    """Result of each run on models that nothing else uses."""
    return [finished(SampleStream(LoadedModels.from_pretrained(checkpoint, device="cpu"), run)) for run in RUNS]


def finished(stream):
    return next(event.output for event in stream if isinstance(event, Finished))


def assert_same(output, expected):
    assert torch.equal(output.latents, expected.latents) and torch.equal(output.frames, expected.frames)


def test_interleaved_runs_equal_separate_ones(models, alone):
    streams = [SampleStream(models, run) for run in RUNS]
    outputs = [None] * len(RUNS)
    while None in outputs:  # a step of each in turn, with a preview in between
        for number, stream in enumerate(streams):
            event = next(stream, None)
            if isinstance(event, Finished):
                outputs[number] = event.output
            elif event is not None:
                assert event.preview.shape[0] == len(event.latents)
    for output, expected in zip(outputs, alone, strict=True):
        assert_same(output, expected)


def test_runs_in_threads_equal_separate_ones(models, alone):
    outputs = [None] * len(RUNS)

    def work(number):
        outputs[number] = finished(SampleStream(models, RUNS[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(RUNS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for output, expected in zip(outputs, alone, strict=True):
        assert_same(output, expected)


def test_pipelines_are_views_of_the_models(models, alone):
    first, second = HunyuanVideoPipeline.over(models), HunyuanVideoPipeline.over(models)
    assert first.transformer is second.transformer is models.transformer and first.grid == models.grid
    run = {name: value for name, value in vars(RUNS[0]).items() if value is not None}
    assert_same(second(**run), alone[0])
    second.vae, kept = None, models.vae
    try:
        assert first.vae is None and models.grid.spatial == 8
    finally:
        first.vae = kept


def test_a_callback_gets_the_pipeline_it_was_given_to(models):
    seen = []
    pipe = HunyuanVideoPipeline.over(models)
    pipe("a star", seed=1, num_inference_steps=2, output_type="latent",
         callback_on_step_end=lambda *arguments: seen.append(arguments))  # fmt: skip
    assert [(given is pipe, step) for given, step, _, _ in seen] == [(True, 0), (True, 1)]
