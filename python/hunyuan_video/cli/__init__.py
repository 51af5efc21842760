"""The `hunyuan-video` command: `main` runs a command line in this process, `program` is a process of its own."""

from hunyuan_video.cli.entry import main
from hunyuan_video.cli.process import program

__all__ = ["main", "program"]
