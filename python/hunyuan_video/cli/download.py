"""`hunyuan-video download`: the files of a repository on the Hugging Face hub, into a folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

from hunyuan_video.errors import UserError


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("download", help="get a checkpoint from the Hugging Face hub (docs/weights.md)")
    parser.add_argument("repository", metavar="OWNER/NAME", help="e.g. hunyuanvideo-community/HunyuanVideo")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="what is there already stays")
    parser.add_argument("--revision", metavar="REV", help="a branch, tag or commit; default the main branch")
    parser.add_argument(
        "--include", metavar="PATTERN", action="append", default=[],
        help="only files whose path is like this, e.g. 'vae/*'; repeatable",
    )  # fmt: skip
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.checkpoints.hub import download
    from hunyuan_video.checkpoints.layout import is_pipeline

    report = partial(print, file=sys.stderr)
    try:
        folder = download(args.repository, args.output, revision=args.revision, include=args.include, report=report)
    except KeyboardInterrupt as error:
        raise UserError("interrupted; the same command goes on where it stopped") from error
    print(folder)
    if is_pipeline(Path(folder)):
        report(f"try: {shlex.join(['hunyuan-video', 'sample', 'PROMPT', '--model', str(folder)])}")
    return 0
