"""HunyuanVideo as a system: models, checkpoints, sampling and training over the kernels of `hunyuan_ext`.

Names are looked up on first use, so `import hunyuan_video` costs nothing and pulls in no other library.
"""

from typing import TYPE_CHECKING, Any

from hunyuan_video.lazy import load

if TYPE_CHECKING:
    from hunyuan_video.errors import ArgumentError, UserError
    from hunyuan_video.sampling import Finished, HunyuanVideoPipeline, PromptEmbeds, SampleOutput, StepEvent

__version__ = "0.1.0"

_HOMES = {
    "ArgumentError": "hunyuan_video.errors",
    "UserError": "hunyuan_video.errors",
    "HunyuanVideoPipeline": "hunyuan_video.sampling",
    "PromptEmbeds": "hunyuan_video.sampling",
    "SampleOutput": "hunyuan_video.sampling",
    "StepEvent": "hunyuan_video.sampling",
    "Finished": "hunyuan_video.sampling",
}

__all__ = [
    "ArgumentError",
    "Finished",
    "HunyuanVideoPipeline",
    "PromptEmbeds",
    "SampleOutput",
    "StepEvent",
    "UserError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__
