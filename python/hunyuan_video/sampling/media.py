"""Video and image files, which live in `hunyuan_video.media`, under the name they had before."""

from hunyuan_video.media.metadata import read_metadata
from hunyuan_video.media.write import check_output, save_video

__all__ = ["check_output", "read_metadata", "save_video"]
