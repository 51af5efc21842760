"""Several runs over the same models in one thread: order, fairness, pausing, canceling, failures, bits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint

from hunyuan_video import ArgumentError, Finished, HunyuanVideoPipeline, UserError
from hunyuan_video.models.interruption import Interrupted, interruptible, interruption_point
from hunyuan_video.models.vae.tiling import Tiling
from hunyuan_video.sampling.interleave import RunScheduler
from hunyuan_video.sampling.request import SampleRequest

PROMPT = "a red star moves left"


class Gate:
    """Holds a scheduler's thread before its first turn, until every run is submitted; keeps who had which turn."""

    def __init__(self):
        self.open, self.turns = threading.Event(), []

    def __call__(self, run):
        assert self.open.wait(30)
        self.turns.append(run.name)


def request(seed: int = 1, steps: int = 4, **arguments) -> SampleRequest:
    return SampleRequest(PROMPT, seed=seed, num_inference_steps=steps, **arguments)


def test_runs_take_turns_and_make_what_each_makes_alone(pipe):
    gate, seeds = Gate(), (1, 2)
    with RunScheduler(pipe.models, on_turn=gate) as scheduler:
        runs = [scheduler.submit(request(seed), name=str(seed)) for seed in seeds]
        gate.open.set()
        events = [list(run) for run in runs]
    for seed, run, seen in zip(seeds, runs, events, strict=True):
        assert [getattr(event, "step", None) for event in seen] == [1, 2, 3, 4, None]
        assert isinstance(seen[-1], Finished) and run.status == "finished"
        assert np.array_equal(run.result().frames, pipe(PROMPT, seed=seed, num_inference_steps=4).frames)
    assert gate.turns[:1] == ["1"] and gate.turns[1:9] == ["2", "1"] * 4


def test_no_more_than_active_runs_are_begun_and_the_oldest_first(pipe):
    gate = Gate()
    with RunScheduler(pipe.models, active=1, on_turn=gate) as scheduler:
        for name in "abc":
            scheduler.submit(request(steps=2), name=name)
        gate.open.set()
    assert "".join(gate.turns) == "aaabbbccc"


def test_urgent_runs_go_first(pipe):
    gate = Gate()
    with RunScheduler(pipe.models, active=2, on_turn=gate) as scheduler:
        slow = scheduler.submit(request(steps=3), name="s")
        scheduler.submit(request(steps=2), name="u", priority=1)
        later = scheduler.submit(request(steps=2), name="l")
        later.prioritize(2)
        gate.open.set()
        slow.wait()
    assert "".join(gate.turns).lstrip("s")[:3] == "lll" and "".join(gate.turns).rstrip("s").endswith("uuu")


def test_a_paused_run_stands_still_until_it_is_resumed(pipe):
    with RunScheduler(pipe.models) as scheduler:
        paused = scheduler.submit(request(), on_event=lambda run, event: run.pause())
        other = scheduler.submit(request(2))
        other.result(60)
        assert paused.status == "paused" and not paused.wait(0.05)
        while not paused.wait(0.01):  # it pauses itself after every step
            paused.resume()
    assert np.array_equal(paused.result().frames, pipe(PROMPT, seed=1, num_inference_steps=4).frames)


def test_a_canceled_run_keeps_its_state_and_one_that_waits_never_begins(pipe, tmp_path):
    path = tmp_path / "run.safetensors"
    with RunScheduler(pipe.models, active=1) as scheduler:
        run = scheduler.submit(request(checkpoint_to=path), on_event=lambda run, event: run.cancel())
        waiting = scheduler.submit(request(2))
        waiting.cancel()
    assert (run.status, waiting.status) == ("canceled", "canceled") and list(waiting) == []
    with pytest.raises(UserError, match="was canceled"):
        run.result()
    assert np.array_equal(pipe(resume_from=path).frames, pipe(PROMPT, seed=1, num_inference_steps=4).frames)


def test_what_a_callback_raises_ends_its_run_alone(pipe):
    def fail(run, event):
        raise ZeroDivisionError("a bug of the caller")

    with RunScheduler(pipe.models) as scheduler:
        bad, good = scheduler.submit(request(), on_event=fail), scheduler.submit(request(2))
        wrong = scheduler.submit(request(height=33))
        late = scheduler.submit(request(3, callback_on_step_end=lambda *_: 1 / 0))
    with pytest.raises(ZeroDivisionError, match="a bug of the caller"):
        bad.result()
    with pytest.raises(ArgumentError, match="height must be a multiple"):
        list(wrong)
    with pytest.raises(ZeroDivisionError):
        late.result()
    assert good.result() is good.output


def test_wrong_arguments_and_closed_schedulers(pipe):
    with pytest.raises(ArgumentError, match="active must be between 1"):
        RunScheduler(pipe.models, active=0)
    scheduler = RunScheduler(pipe.models)
    with pytest.raises(ArgumentError, match="output_type must be one of"):
        scheduler.submit(request(output_type="gif"))
    run = scheduler.submit(request(steps=200))
    with pytest.raises(TimeoutError, match="not ended within"):
        run.result(0.01)
    scheduler.close(cancel=True)
    assert run.status == "canceled"
    with pytest.raises(UserError, match="is closed"):
        scheduler.submit(request())


@pytest.mark.parametrize("mode", ["plain", "exact", "tiled"])
def test_cancel_within_the_decode(tmp_path, monkeypatch, mode):
    """The decode ends at its next interruption point, long before its end; the state stays and gives the same video."""
    pipe = HunyuanVideoPipeline.from_pretrained(write_random_checkpoint(tmp_path / "m"), device="cpu")
    monkeypatch.setattr("hunyuan_video.models.vae.model.STREAM_LATENTS", 1)
    monkeypatch.setattr("hunyuan_video.models.vae.model.CausalVAE._tiling", small_tiles)
    stream = pipe.stream(PROMPT, seed=1, vae_mode=mode, checkpoint_to=tmp_path / "state")
    points = []
    monkeypatch.setattr(stream, "_cancelled", Countdown(stream._cancelled, 3, points))
    events = list(stream)
    assert [event.step for event in events] == [1, 2, 3, 4] and len(points) == 3
    whole = pipe(PROMPT, seed=1, vae_mode=mode)
    assert np.array_equal(pipe(resume_from=tmp_path / "state", vae_mode=mode).frames, whole.frames)


def small_tiles(vae, in_unit, out_unit):
    return Tiling(2, 2, in_unit, out_unit)


class Countdown:
    """An event that is set the `count`-th time that the decode asks."""

    def __init__(self, event, count, points):
        self.event, self.count, self.points = event, count, points
        self.steps = 0

    def is_set(self):
        self.steps += 1
        if self.steps > 4:  # after each step it is asked once
            self.points.append(self.steps)
        return len(self.points) >= self.count


def test_interruption_points_are_of_one_thread_and_one_block():
    interruption_point()
    with interruptible(lambda: True):
        with interruptible(lambda: False):
            interruption_point()
        seen = []
        other = threading.Thread(target=lambda: seen.append(interruption_point()))
        other.start()
        other.join()
        assert seen == [None]
        with pytest.raises(Interrupted):
            interruption_point()
    interruption_point()
    assert torch.is_grad_enabled()
