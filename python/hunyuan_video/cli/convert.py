"""`hunyuan-video convert`: checkpoints between the official and the diffusers layout."""

from __future__ import annotations

import argparse

from hunyuan_video.cli.options import DTYPES


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("convert", help="convert a checkpoint between layouts")
    parser.add_argument(
        "source", metavar="SOURCE", help="a weight file, a component's folder or a whole checkpoint folder"
    )
    parser.add_argument(
        "destination", metavar="DESTINATION", help="what to write: a folder, or a .safetensors or .pt file"
    )
    parser.add_argument("--layout", choices=("diffusers", "official"), required=True, help="layout of the destination")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; default as stored")
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.checkpoints import convert

    for path in convert(args.source, args.destination, args.layout, args.dtype):
        print(path)
    return 0
