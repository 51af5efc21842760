"""The `hunyuan-video` command."""

from hunyuan_video.cli.entry import main

__all__ = ["main"]
