"""What `save_video` wrote about a run into a file, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The facts that `save_video` put into a file (or into the first frame of a folder); {} where it holds none."""
    from hunyuan_video.media import mp4, write_images

    path = Path(path)
    if path.is_dir():
        path = path / "frame-0001.png"
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    read = mp4.read_mp4_comment if path.suffix.lower() == ".mp4" else write_images.read_image_comment
    try:
        comment = read(path)
    except (OSError, ValueError) as error:  # PyAV's and Pillow's own errors are among these
        raise UserError(f"{path} is not a video or image this program can read ({error})") from error
    try:
        facts = json.loads(comment or "{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
