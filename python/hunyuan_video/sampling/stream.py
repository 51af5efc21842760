"""A run as a stream of events: one per step, then `Finished`. It can be stopped at any event, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING

from hunyuan_video.errors import explained_memory_errors
from hunyuan_video.sampling.arguments import Arguments, prepare
from hunyuan_video.sampling.decode import as_output, decode_latents
from hunyuan_video.sampling.denoise import GuidedVelocity, Step, denoise
from hunyuan_video.sampling.output import Finished, SampleOutput, StepEvent
from hunyuan_video.sampling.prompts import tokens_from_json

if TYPE_CHECKING:
    from hunyuan_video.sampling.pipeline import HunyuanVideoPipeline
    from hunyuan_video.sampling.state import SamplingState


class SampleStream(Iterator["StepEvent | Finished"]):
    """Iterates over the events of one run. Arguments are checked and prompts encoded when it is made."""

    def __init__(self, pipe: HunyuanVideoPipeline, arguments: Arguments):
        self.pipe = pipe
        self.arguments = arguments
        self.state: SamplingState = prepare(pipe, arguments)
        self._cancelled = threading.Event()
        self._events = self._run()

    def __next__(self) -> StepEvent | Finished:
        return next(self._events)

    def cancel(self) -> None:
        """The stream ends after the step that is being computed; a checkpoint_to file stays to resume from."""
        self._cancelled.set()

    def close(self) -> None:
        """Ends the stream now; like `cancel`, but only for the thread that reads the events."""
        self._events.close()

    def _run(self) -> Generator[StepEvent | Finished, None, None]:
        self._save()
        velocity = GuidedVelocity(self.pipe.transformer, self.state, self.arguments.batch_size)
        steps = denoise(velocity, self.state)
        while not self.state.complete:
            with explained_memory_errors("sampling", "lower height, width or num_frames"):
                step = next(steps)
            self._call_back(step)
            if self.state.step % self.arguments.checkpoint_every == 0 or self.state.complete:
                self._save()
            try:
                yield self._event(step)
            except GeneratorExit:
                self._save()
                raise
            if self._cancelled.is_set():
                self._save()
                return
        yield Finished(self._output())

    def _event(self, step: Step) -> StepEvent:
        preview = partial(self.pipe.preview, step.denoised)
        return StepEvent(self.state.step, self.state.total, self.state.latents, preview, self.cancel)

    def _call_back(self, step: Step) -> None:
        """diffusers' convention: callback(pipe, step, timestep, {"latents": ...}) may return replaced latents."""
        if self.arguments.callback_on_step_end is None:
            return
        changes = self.arguments.callback_on_step_end(
            self.pipe, step.index, step.timestep, {"latents": self.state.latents}
        )
        if changes and "latents" in changes:
            self.state.latents = changes["latents"].detach().float().cpu()

    def _save(self) -> None:
        if self.arguments.checkpoint_to is not None:
            self.state.save(self.arguments.checkpoint_to)

    def _output(self) -> SampleOutput:
        arguments, state = self.arguments, self.state
        frames = state.latents
        if arguments.output_type != "latent":
            video = decode_latents(self.pipe.vae, state.latents, arguments.vae_mode)
            frames = as_output(video, arguments.output_type)
        return SampleOutput(
            latents=state.latents,
            frames=frames,
            tokens=tokens_from_json(state.tokens),
            seeds=list(state.seeds),
            settings={**state.settings.as_dict(), "vae_mode": arguments.vae_mode},
        )
