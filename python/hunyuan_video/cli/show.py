"""`hunyuan-video show FILE`: the command that made a video or image, from the facts inside it."""

from __future__ import annotations

import argparse
import json

from hunyuan_video.errors import UserError


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("show", help="print the command that made a video")
    parser.add_argument("file", metavar="FILE", help="an .mp4, .gif, .webp, .png or frame folder made by this program")
    parser.add_argument("--json", action="store_true", help="print everything that is known as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.sampling.media import read_metadata

    facts = read_metadata(args.file)
    if "command" not in facts:
        raise UserError(f"{args.file} does not say how it was made; only files written by hunyuan-video sample do")
    print(json.dumps(facts, indent=2) if args.json else facts["command"])
    return 0
