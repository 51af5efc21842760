"""From a sentence to a video: the pipeline, its resumable state, previews and media files (names load on first use)."""

from typing import TYPE_CHECKING, Any

from hunyuan_video.lazy import load

if TYPE_CHECKING:
    from hunyuan_video.sampling.interleave import RunScheduler, ScheduledRun
    from hunyuan_video.sampling.media import read_metadata, save_video
    from hunyuan_video.sampling.models import LoadedModels
    from hunyuan_video.sampling.pipeline import HunyuanVideoPipeline
    from hunyuan_video.sampling.prompts import PromptEmbeds, TokenReport
    from hunyuan_video.sampling.request import SampleRequest
    from hunyuan_video.sampling.resume_state import SamplingState
    from hunyuan_video.sampling.run import Finished, SampleOutput, StepEvent

_HOMES = {
    "HunyuanVideoPipeline": "pipeline",
    "RunScheduler": "interleave",
    "SampleRequest": "request",
    "ScheduledRun": "interleave",
    "LoadedModels": "models",
    "PromptEmbeds": "prompts",
    "SampleOutput": "run",
    "StepEvent": "run",
    "Finished": "run",
    "SamplingState": "resume_state",
    "TokenReport": "prompts",
    "save_video": "media",
    "read_metadata": "media",
}

__all__ = [
    "Finished",
    "HunyuanVideoPipeline",
    "LoadedModels",
    "PromptEmbeds",
    "RunScheduler",
    "SampleOutput",
    "SampleRequest",
    "SamplingState",
    "ScheduledRun",
    "StepEvent",
    "TokenReport",
    "read_metadata",
    "save_video",
]


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
