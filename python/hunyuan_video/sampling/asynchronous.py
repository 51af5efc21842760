"""A run's events for asyncio: the steps are computed in a thread of their own, the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor

from hunyuan_video.sampling.run import Finished, SampleStream, StepEvent


async def events_in_thread(make: Callable[[], SampleStream]) -> AsyncGenerator[StepEvent | Finished, None]:
    """Events of the stream that make() returns; both run in one thread.

    A consumer that leaves the loop, or is canceled, ends the run after the step that is being computed, without waiting
    for it; a checkpoint_to file stays.
    """
    loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, "sampling")
    stream: SampleStream | None = None
    try:
        stream = await loop.run_in_executor(thread, make)
        while (event := await loop.run_in_executor(thread, next, stream, None)) is not None:
            yield event
    finally:
        if stream is not None:
            stream.cancel()
            thread.submit(stream.close)
        thread.shutdown(wait=False)
