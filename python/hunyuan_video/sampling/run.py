"""A run over loaded models as a stream of events: one per step, then `Finished`. It can be stopped at any event, from
any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hunyuan_video.errors import OutOfMemory, UserError, explained_memory_errors, notify
from hunyuan_video.files import check_writable
from hunyuan_video.models.interruption import Interrupted, interruptible
from hunyuan_video.models.text.tokens import TokenReport
from hunyuan_video.sampling.decode import as_output, decode_latents
from hunyuan_video.sampling.denoise import GuidedVelocity, Step, denoise
from hunyuan_video.sampling.host import own_precision
from hunyuan_video.sampling.models import LoadedModels
from hunyuan_video.sampling.notebook import videos_html
from hunyuan_video.sampling.prepare import prepare
from hunyuan_video.sampling.progress import StepBar
from hunyuan_video.sampling.prompts import tokens_from_json
from hunyuan_video.sampling.request import SampleRequest
from hunyuan_video.sampling.resume_state import SamplingState
from hunyuan_video.sampling.retreat import decoded_within, ways_to_sample

if TYPE_CHECKING:
    from hunyuan_video.distributed.team import Team


@dataclass
class SampleOutput:
    """The videos of one call. N = prompts x num_videos_per_prompt, prompt by prompt."""

    latents: Tensor  # [N, C, T, h, w] float32, model space (before the division by the VAE's scaling factor)
    # "np": uint8 [N, F, H, W, 3]; "pt": float32 [N, 3, F, H, W] in 0..1; "pil": lists; "latent", and on ranks that are
    # not the first: latents
    frames: Any
    tokens: dict[
        str, list[TokenReport]
    ]  # "text_encoder", "clip_text_encoder" -> a report (used, limit, dropped) per prompt
    seeds: list[int]  # one per video
    settings: dict[str, Any]  # every number the run used, defaults resolved; JSON types only, none of them null
    fps: float = 24.0  # frames per second of the model's videos

    def _repr_html_(self) -> str | None:
        """The videos, which Jupyter shows for the last value of a cell; None for latents: it then shows the text."""
        return None if self.frames is self.latents else videos_html(self.frames, self.seeds, self.fps)


@dataclass
class StepEvent:
    """One step is done. `preview` is computed when first read, so it costs nothing where it is not shown."""

    step: int  # 1..total
    total: int
    latents: Tensor  # [N, C, T, h, w] float32, after this step
    make_preview: Callable[[], Tensor] = field(repr=False)
    stop: Callable[[], None] = field(repr=False)

    @cached_property
    def preview(self) -> Tensor:
        """uint8 [N, T, h, w, 3]: the clean video the model expects at this step, one pixel per latent position."""
        return self.make_preview()

    def cancel(self) -> None:
        """End the run after this event: the stream stops without `Finished`; a checkpoint_to file stays to resume."""
        self.stop()


@dataclass
class Finished:
    """The last event of a stream that ran to its end."""

    output: SampleOutput


class SampleStream(Iterator[StepEvent | Finished]):
    """Iterates over the events of one run. The request is checked and its prompts encoded when it is made.

    Its callback_on_step_end gets (step, timestep, {"latents": ...}); the pipeline puts itself before them.
    """

    def __init__(self, models: LoadedModels, request: SampleRequest):
        self.models = models
        self.request = request
        self.team = models.team
        self.first = self.team is None or self.team.first
        with own_precision(models.device):
            start = partial(prepare, models, request)
            self.state: SamplingState = start() if self.team is None else self.team.from_first(start)
        wanted = request.checkpoint_to if self.first else None
        self._state_file = None if wanted is None else Path(wanted).absolute()  # whatever the folder is by then
        self.saved_step = self._resumed_step()  # steps that the state file holds, None while there is none of this run
        self._warned = False
        self._cancelled = threading.Event()
        self._events = self._run()

    def __next__(self) -> StepEvent | Finished:
        with own_precision(self.models.device):
            return next(self._events)

    def cancel(self) -> None:
        """The stream ends after the step that is being computed, or within the decode; a checkpoint_to file stays."""
        self._cancelled.set()

    def close(self) -> None:
        """Ends the stream now; like `cancel`, but only for the thread that reads the events."""
        self._events.close()

    def _run(self) -> Generator[StepEvent | Finished, None, None]:
        with StepBar(self.state, self.request, shown=self.first) as bar:
            yield from self._events_of(bar)

    def _events_of(self, bar: StepBar) -> Generator[StepEvent | Finished, None, None]:
        if self._state_file is not None:
            check_writable(self._state_file)
        self._save()
        self.models.begin()
        for step in self._steps():
            bar.update(self.state.step)
            self._call_back(step)
            if self.state.step % self.request.checkpoint_every == 0 or self.state.complete:
                self._save()
            try:
                yield self._event(step)
            except GeneratorExit:
                self._save()
                raise
            if self._stops():
                self._save()
                return
        bar.say("decoding")
        try:
            with interruptible(self._cancelled.is_set if self.team is None else _never):
                output = self._output()
        except Interrupted:
            return
        bar.close()
        yield Finished(output)

    def _steps(self) -> Iterator[Step]:
        """The steps that are left. One that runs out of memory is made again, with less in memory."""
        state, models = self.state, self.models
        settings = state.settings
        video = models.grid.tokens(settings.num_frames, settings.height, settings.width)
        ways = ways_to_sample(models, video + state.embeds.text.shape[1]) if self.team is None else iter(())
        while not state.complete:
            velocity = GuidedVelocity(models.transformer, state, self.request.batch_size, self.team)
            try:
                with explained_memory_errors("sampling", "lower height, width or num_frames"):
                    yield from denoise(velocity, state)
                line = velocity.approximation.verdict()
            except OutOfMemory:
                way = next(ways, None)
                if way is None:
                    raise
                line = f"out of memory in step {state.step + 1} of {state.total}: {way}; the run goes on"
            del velocity  # and its table of modulations
            if line is not None:
                notify(line)

    def _stops(self) -> bool:
        """The run was canceled: of several ranks, on the first."""
        stops = self._cancelled.is_set()
        return stops if self.team is None else self.team.ranks.agree(stops)

    def _event(self, step: Step) -> StepEvent:
        preview = partial(self.models.preview, step.denoised)
        return StepEvent(self.state.step, self.state.total, self.state.latents, preview, self.cancel)

    def _call_back(self, step: Step) -> None:
        """diffusers' convention: the callback may return {"latents": replacement}."""
        if self.request.callback_on_step_end is None:
            return
        changes = self.request.callback_on_step_end(step.index, step.timestep, {"latents": self.state.latents})
        if changes and "latents" in changes:
            self.state.latents = changes["latents"].detach().float().cpu()

    def _resumed_step(self) -> int | None:
        """The step of a state that is continued in its own file."""
        file = self.request.resume_from
        own = isinstance(file, (str, Path)) and Path(file).absolute() == self._state_file
        return self.state.step if own else None

    def _save(self) -> None:
        """A state file that cannot be written, as on a full disk, does not end the run: it is told, and tried again."""
        if self._state_file is None:
            return
        try:
            self.state.save(self._state_file)
        except UserError as error:
            if not self._warned:
                last = "nothing is saved" if self.saved_step is None else f"step {self.saved_step} is saved"
                notify(f"{error}; the run goes on, {last}")
            self._warned = True
        else:
            self.saved_step, self._warned = self.state.step, False

    def _output(self) -> SampleOutput:
        request, state = self.request, self.state
        frames = state.latents
        if request.output_type != "latent":
            video = self._decoded() if self.team is None else self._decoded_together(self.team)
            if self.first:
                frames = as_output(video, request.output_type)
        return SampleOutput(
            latents=state.latents,
            frames=frames,
            tokens=tokens_from_json(state.tokens),
            seeds=list(state.seeds),
            settings={**_used(state.settings.as_dict()), "vae_mode": request.vae_mode},
            fps=self.models.defaults.fps,
        )

    def _decoded(self) -> Tensor:  # [N, 3, F, H, W] in 0..1
        decode = partial(decode_latents, self.models.vae, self.state.latents)
        return decoded_within(self.models, self.state.latents, self.request.vae_mode, decode)

    def _decoded_together(self, team: Team) -> Tensor:  # [N, 3, F, H, W] in 0..1 on the first rank
        """As the first rank finds that there is room."""
        self.models.begin()  # nothing of the transformer stays, on any rank
        latents, mode = self.state.latents, self.request.vae_mode
        way = team.from_first(partial(self.models.decode_way, latents, mode))
        return decode_latents(self.models.vae, latents, *way, team)


def _never() -> bool:
    """Several ranks decode to the end: one that stopped would leave the others waiting."""
    return False


def _used(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that the run had no use for, as JSON has them."""
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    return {name: value for name, value in listed.items() if value is not None}
