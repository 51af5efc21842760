"""`hunyuan-video card MODEL`: a model's card in Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("card", help="a model's card in Markdown: settings, memory, training data, evaluation")
    parser.add_argument("model", metavar="MODEL", help="tiny, or a checkpoint folder")
    parser.add_argument(
        "--result", action="append", default=[], metavar="JSON",
        help="what eval, eval metrics, eval compare or eval study analyse wrote with -o; may be repeated",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="MD", help="write it into a file")
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.evaluation.card import card
    from hunyuan_video.files import staged_file

    text = card(args.model, args.result)
    if args.output:
        with staged_file(Path(args.output)) as file:
            file.write(text.encode())
    else:
        print(text, end="")
    return 0
