"""Reading of the metadata that `save_video` wrote about a run into a file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata that `save_video` put into a file (or into the first frame of a folder); {} where it holds none."""
    from hunyuan_video.media.animations import read_image_comment
    from hunyuan_video.media.images import is_image
    from hunyuan_video.media.mp4 import read_mp4_comment
    from hunyuan_video.media.suffixes import IMAGE_SUFFIXES

    path = Path(path)
    if path.is_dir():
        if not (path / "frame-0001.png").is_file():
            inspect = shlex.join(["hunyuan-video", "inspect", str(path)])
            raise UserError(f"{path} is no folder of frames: it has no frame-0001.png; `{inspect}` says what it is")
        path = path / "frame-0001.png"
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        with path.open("rb") as file:
            head = file.read(32)
        named = path.suffix.lower() in IMAGE_SUFFIXES
        comment = read_image_comment(path) if is_image(head) or named else read_mp4_comment(path)
    except Exception as error:  # decoders of damaged files raise anything
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is not a video or image this program can read ({reason})") from error
    try:
        metadata = json.loads(comment or "{}")
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}
