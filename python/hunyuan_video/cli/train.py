"""`hunyuan-video train CONFIG`: hands a training configuration to `hunyuan_video.training`."""

from __future__ import annotations

import argparse


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("train", help="train a model from a YAML recipe")
    parser.add_argument("config", metavar="CONFIG", help="a recipe, e.g. recipes/tiny/transformer.yaml")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint of the run's folder")
    parser.add_argument("--dry-run", action="store_true", help="check the recipe and print what would run")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override an entry of the recipe; repeatable"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.training import cli

    return cli.run(args)
