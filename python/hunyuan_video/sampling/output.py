"""What a run hands back: an event per step, then the finished videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from hunyuan_video.models.text.tokens import TokenReport


@dataclass
class SampleOutput:
    """The videos of one call. N = prompts x num_videos_per_prompt, prompt by prompt."""

    latents: Tensor  # [N, C, T, h, w] float32, model space (before the division by the VAE's scaling factor)
    frames: Any  # "np": uint8 [N, F, H, W, 3]; "pt": float32 [N, 3, F, H, W] in 0..1; "pil": lists; "latent": latents
    tokens: dict[
        str, list[TokenReport]
    ]  # "text_encoder", "clip_text_encoder" -> a report (used, limit, dropped) per prompt
    seeds: list[int]  # one per video
    settings: dict[str, Any]  # every number the run used, defaults resolved; JSON types only


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
