"""Paths of the command line: `~` where the shell leaves it (after `=`, in quotes, behind a comma), and `$NAME`."""

from __future__ import annotations

import argparse

from hunyuan_video.files import expand

# Arguments that hold a path, or a list of them; the same name means the same in every command.
PATHS = (
    "adapter", "checkpoint_to", "config", "curves", "data", "destination", "file", "folder", "folder_a", "folder_b",
    "image", "latents", "law", "loras", "model", "output", "plot", "prompt_file", "real", "reference", "resume",
    "sheet", "source", "sources", "study", "suite", "tiers", "video",
)  # fmt: skip


def expand_paths(args: argparse.Namespace) -> None:
    """Replaces the paths among parsed arguments. Raises UserError."""
    for name in PATHS:
        value = getattr(args, name, None)
        if isinstance(value, str):
            separator = "," if name == "adapter" else "\0"
            setattr(args, name, separator.join(expand(part) for part in value.split(separator)))
        elif isinstance(value, list):
            setattr(args, name, [expand(part) for part in value])
