"""`hunyuan-video train CONFIG`: hands a training configuration to `hunyuan_video.training`."""

from __future__ import annotations

import argparse
import shlex


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    return add_run_options(commands.add_parser("train", help="train a model from a YAML recipe"), example="tiny/flow")


def add_run_options(parser: argparse.ArgumentParser, example: str) -> argparse.ArgumentParser:
    parser.add_argument(
        "config", metavar="CONFIG", help=f"a YAML file, or a recipe of this package by its name, e.g. {example}"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint of the run's folder")
    parser.add_argument("--dry-run", action="store_true", help="check the recipe and its data, print memory and time")
    parser.add_argument(
        "--gpu", default="", metavar="NAME", help="GPU that --dry-run plans for (default H100, or this computer)"
    )
    parser.add_argument("--ranks", type=int, default=0, metavar="N", help="number of GPUs that --dry-run plans for")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override an entry of the recipe; repeatable"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.errors import ArgumentError, Interruption
    from hunyuan_video.training.run import run as train

    if args.ranks < 0:
        raise ArgumentError(f"--ranks must be 1 or more, got {args.ranks}")
    try:
        train(
            args.config,
            resume=args.resume,
            dry_run=args.dry_run,
            overrides=tuple(args.set),
            report=_line,
            gpu=args.gpu,
            ranks=args.ranks,
        )
    except KeyboardInterrupt:
        raise Interruption(_interrupted(args)) from None
    return 0


def _interrupted(args: argparse.Namespace) -> str:
    from hunyuan_video.training.config import SequenceRun, load_config
    from hunyuan_video.training.outcome import saved_line

    words = [word for entry in args.set for word in ("--set", entry)]
    command = shlex.join(["hunyuan-video", args.command, args.config, *words, "--resume"])
    config = load_config(args.config, tuple(args.set))
    if args.dry_run:
        return "interrupted"
    if isinstance(config, SequenceRun):
        return f"interrupted; parts that are finished and checkpoints are kept, continue with: {command}"
    return saved_line(config.output, command)


def _line(text: str) -> None:
    print(text, flush=True)
