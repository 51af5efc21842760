"""The `hunyuan-video` command."""

from hunyuan_video.cli.main import main

__all__ = ["main"]
