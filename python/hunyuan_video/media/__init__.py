"""Pictures and videos as files: reading, writing, and what pixels mean in between (names load on first use)."""

from typing import TYPE_CHECKING, Any

from hunyuan_video.lazy import load

if TYPE_CHECKING:
    from hunyuan_video.media.images import read_image
    from hunyuan_video.media.metadata import read_metadata
    from hunyuan_video.media.read import MediaInfo, UnreadableError, probe, read_clip, video_size
    from hunyuan_video.media.write import check_output, save_video

_HOMES = {
    "MediaInfo": "read",
    "UnreadableError": "read",
    "check_output": "write",
    "probe": "read",
    "read_clip": "read",
    "read_image": "images",
    "read_metadata": "metadata",
    "save_video": "write",
    "video_size": "read",
}

__all__ = [
    "MediaInfo",
    "UnreadableError",
    "check_output",
    "probe",
    "read_clip",
    "read_image",
    "read_metadata",
    "save_video",
    "video_size",
]


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
