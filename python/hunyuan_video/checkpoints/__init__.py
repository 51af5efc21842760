"""Reading and writing weights: official, diffusers and single-file layouts, FP8; text encoders; conversion.

Everything works on `TensorSource`s, which give names, shapes and dtypes at once and tensors one at a time. Files are
opened under their official key names (`open_checkpoint`), checked against the model, then streamed into it
(`load_model`) or into another layout (`convert`).
"""

from typing import TYPE_CHECKING, Any

from hunyuan_video import lazy  # its `load` would be hidden by the module of that name here

if TYPE_CHECKING:
    from hunyuan_video.checkpoints.conversion import convert
    from hunyuan_video.checkpoints.load import load_model
    from hunyuan_video.checkpoints.locate import Checkpoint, components_at, open_checkpoint
    from hunyuan_video.checkpoints.save import save_model, write_checkpoint

_HOMES = {
    "Checkpoint": "locate",
    "components_at": "locate",
    "convert": "conversion",
    "load_model": "load",
    "open_checkpoint": "locate",
    "save_model": "save",
    "write_checkpoint": "save",
}
__all__ = ["Checkpoint", "components_at", "convert", "load_model", "open_checkpoint", "save_model", "write_checkpoint"]


def __getattr__(name: str) -> Any:
    return lazy.load(__name__, _HOMES, name)
