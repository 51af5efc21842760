"""`hunyuan-video eval compare` and `eval metrics`: folders of videos, measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Actions = argparse._SubParsersAction[argparse.ArgumentParser]


def add_compare(actions: Actions) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        "compare",
        help="is one folder of videos better than another, prompt by prompt?",
        description="Videos of one prompt have one name in both folders. Differences are FOLDER_B - FOLDER_A.",
    )
    parser.add_argument("folder_a", metavar="FOLDER_A", help="videos of the system to be measured against")
    parser.add_argument("folder_b", metavar="FOLDER_B", help="videos of the changed system, of the same names")
    parser.add_argument("--measure", default="prompt_following", metavar="NAME", help="default: prompt_following")
    _add_sources(parser)
    parser.add_argument("--planned", type=int, metavar="N", help="prompts fixed beforehand; refuses another number")
    parser.add_argument("--interest", type=float, metavar="X", help="a difference that would matter (default: .05)")
    _add_output(parser)
    return parser


def run_compare(args: argparse.Namespace) -> int:
    from hunyuan_video.evaluation.comparison import compare_folders

    result = compare_folders(
        args.folder_a, args.folder_b, measure=args.measure, suite=args.suite, world=args.world,
        reference=args.reference, planned=args.planned, interest=args.interest,
    )  # fmt: skip
    show_result(args, result.as_json(), "\n".join([result.line(), *result.notes()]))
    return 0


def add_metrics(actions: Actions) -> argparse.ArgumentParser:
    parser = actions.add_parser("metrics", help="measure a folder of videos by all metrics that run offline")
    parser.add_argument("folder", metavar="FOLDER", help="videos")
    parser.add_argument("--measure", action="append", metavar="NAME", help="only this metric; may be repeated")
    _add_sources(parser)
    parser.add_argument("--real", metavar="FOLDER", help="videos of the same kind: Frechet and kernel distance to them")
    _add_output(parser)
    return parser


def run_metrics(args: argparse.Namespace) -> int:
    from hunyuan_video.evaluation.report import as_markdown, folder_metrics

    result = folder_metrics(
        args.folder, suite=args.suite, world=args.world, reference=args.reference, real=args.real,
        names=None if args.measure is None else tuple(args.measure),
    )  # fmt: skip
    show_result(args, result, as_markdown(result))
    return 0


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", metavar="FILE", help="the prompts by id, where the videos' records have none")
    parser.add_argument("--world", metavar="NAME", help="the toyworld whose judge says if a prompt is followed")
    parser.add_argument("--reference", metavar="FOLDER", help="videos of the same names to be like, for psnr and ssim")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", "--output", metavar="JSON", help="write the JSON into a file, too")


def show_result(args: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Prints the text, or with --json the result, which also goes into the file of -o."""
    from hunyuan_video.files import write_json

    print(json.dumps(result, indent=1) if args.json else text)
    if args.output:
        write_json(Path(args.output), result)
