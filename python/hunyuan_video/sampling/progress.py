"""A bar of a run's steps on stderr, for programs and notebooks; the command line has its own."""

from __future__ import annotations

from types import TracebackType

from hunyuan_video.sampling.request import SampleRequest
from hunyuan_video.sampling.resume_state import SamplingState


class StepBar:
    """tqdm's bar where the request wants progress, nothing else; steps of an earlier run count as done."""

    def __init__(self, state: SamplingState, request: SampleRequest, *, shown: bool = True):
        self.bar = None
        if request.progress and shown:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=state.total, initial=state.step, desc="sampling", unit="step", dynamic_ncols=True)
        self.decodes = request.output_type != "latent"

    def update(self, step: int) -> None:
        """So many steps are done."""
        if self.bar is not None:
            self.bar.update(step - self.bar.n)

    def say(self, what: str) -> None:
        """The steps are done, and `what` goes on, if anything does."""
        if self.bar is not None and self.decodes:
            self.bar.set_description(what)

    def close(self) -> None:
        """Leaves the bar as it is; the next line of output is below it."""
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> StepBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
