"""`hunyuan-video show FILE`: the command that made a video or image, or the one that finishes an interrupted run."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from hunyuan_video.cli.job import LATENTS, resume_command
from hunyuan_video.errors import UserError


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("show", help="print the command that made a video, or that finishes a run")
    parser.add_argument("file", metavar="FILE", help="an .mp4, .gif, .webp, .apng, .png, frame folder or state file")
    parser.add_argument("--json", action="store_true", help="print everything that is known as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.media.metadata import read_metadata

    metadata = state_metadata(args.file) if args.file.endswith(LATENTS) else read_metadata(args.file)
    if "command" not in metadata:
        raise UserError(f"{args.file} does not say how it was made; only files written by hunyuan-video do")
    if not args.file.endswith(LATENTS):
        metadata["command"] += f" -o {shlex.quote(output_name(args.file))}"
    print(json.dumps(metadata, indent=2) if args.json else metadata["command"])
    return 0


def output_name(path: str) -> str:
    """Value of -o for such a file: its name, a folder's with a slash."""
    return Path(path).name + ("/" if Path(path).is_dir() else "")


def state_metadata(path: str) -> dict[str, Any]:
    """Metadata of a state file; its command resumes the run, or decodes the latents of a complete one."""
    from hunyuan_video.sampling.resume_state import SamplingState

    if not Path(path).exists():
        raise UserError(f"no such file: {path}")
    state = SamplingState.load(path, f"`{shlex.join(['hunyuan-video', 'inspect', path])}` says what it is")
    decode = shlex.join(["hunyuan-video", "decode", path, "-o", "out.mp4"])
    return {
        "command": decode if state.complete else resume_command(path),
        "step": state.step,
        "prompts": state.prompts,
        "seeds": state.seeds,
        "settings": state.settings.as_dict(),
        "fingerprints": state.models,
    }
