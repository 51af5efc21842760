"""Runs for asyncio: the loop goes on beside the steps; consumers that leave or are canceled."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import numpy as np
import pytest

from hunyuan_video import ArgumentError, Finished
from hunyuan_video.sampling.resume_state import SamplingState

PROMPT = "a red star moves left"


def test_events_are_those_of_stream_and_the_loop_goes_on(pipe):
    async def run():
        ticks, threads = 0, set()

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        step_in = lambda *_: threads.add(threading.current_thread().name)  # noqa: E731
        events = [event async for event in pipe.astream(PROMPT, seed=1, callback_on_step_end=step_in)]
        ticking.cancel()
        return events, ticks, threads

    events, ticks, threads = asyncio.run(run())
    assert [getattr(event, "step", None) for event in events] == [1, 2, 3, 4, None]
    assert isinstance(events[-1], Finished) and ticks > 20
    assert threading.current_thread().name not in threads and len(threads) == 1
    assert np.array_equal(events[-1].output.frames, pipe(PROMPT, seed=1).frames)


def test_two_runs_side_by_side(pipe):
    async def last(seed):
        return [event async for event in pipe.astream(PROMPT, seed=seed)][-1].output.frames

    async def run():
        return await asyncio.gather(last(1), last(2))

    for seed, frames in enumerate(asyncio.run(run()), 1):
        assert np.array_equal(frames, pipe(PROMPT, seed=seed).frames)


def test_wrong_arguments_come_with_the_first_event(pipe):
    async def run():
        async for _ in pipe.astream(PROMPT, height=33):
            raise AssertionError("no event")

    with pytest.raises(ArgumentError, match="height must be a multiple"):
        asyncio.run(run())


@pytest.mark.parametrize("how", ["break", "cancel"])
def test_a_consumer_that_leaves_ends_the_run_and_keeps_its_state(pipe, tmp_path, how):
    path, steps = tmp_path / "run.safetensors", []
    arguments = {"seed": 1, "checkpoint_to": path, "num_inference_steps": 60}

    async def consume(reached):
        callback = lambda step, *_: steps.append(step)  # noqa: E731
        async with contextlib.aclosing(pipe.astream(PROMPT, **arguments, callback_on_step_end=callback)) as events:
            async for event in events:
                if event.step == 2:
                    reached.set()
                    if how == "break":
                        return

    async def run():
        reached = asyncio.Event()
        task = asyncio.create_task(consume(reached))
        await reached.wait()
        if how == "cancel":
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    deadline = time.monotonic() + 30
    while any(thread.name.startswith("sampling") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the run goes on"
        time.sleep(0.01)
    done = SamplingState.load(path).step
    assert done == len(steps) < 60
    assert np.array_equal(pipe(resume_from=path).frames, pipe(PROMPT, seed=1, num_inference_steps=60).frames)
