"""Paths of the command line: `~` where the shell leaves it (after `=`, in quotes, behind a comma), and `$NAME`."""

from __future__ import annotations

import argparse

from hunyuan_video.files import expand

# Arguments that hold a path, or a list of them; the same name means the same in every command.
PATHS = (
    "adapter", "against", "checkpoint_to", "config", "curves", "data", "destination", "file", "folder", "folder_a",
    "folder_b", "image", "latents", "law", "loras", "model", "output", "plot", "prompt_file", "real", "reference",
    "result", "resume", "sheet", "source", "sources", "study", "suite", "tiers", "video",
)  # fmt: skip
NAMED = ("join", "systems")  # of the form NAME=PATH or NAME=PATH:PATH, several times


def expand_paths(args: argparse.Namespace) -> None:
    """Replaces the paths among parsed arguments. Raises UserError."""
    for name in PATHS:
        value = getattr(args, name, None)
        if isinstance(value, str):
            separator = "," if name == "adapter" else "\0"
            setattr(args, name, separator.join(expand(part) for part in value.split(separator)))
        elif isinstance(value, list):
            setattr(args, name, [expand(part) for part in value])
    for name in NAMED:
        given = getattr(args, name, None)
        if given:
            setattr(args, name, [_expand_named(text) for text in given])


def _expand_named(text: str) -> str:
    name, equals, paths = text.partition("=")
    return name + equals + ":".join(map(expand, paths.split(":")))
