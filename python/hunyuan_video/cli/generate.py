"""`hunyuan-video eval generate`: the videos of a study, a prompt's from one seed by every system."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hunyuan_video.cli.options import add_request_flags
from hunyuan_video.errors import ArgumentError

SETTINGS = (
    "height", "width", "num_frames", "num_inference_steps", "true_cfg_scale", "guidance_scale", "flow_shift", "solver",
    "cache", "attention",
)  # fmt: skip


def add_generate(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        "generate",
        help="make the videos of a study: every system, every prompt, one seed a prompt",
        description="Goes on where it was killed; further runs with other settings add systems to the same study.",
    )
    parser.add_argument("suite", metavar="SUITE", help="a .txt, .csv or .jsonl file, toyworld:WORLD:COUNT or vbench")
    parser.add_argument(
        "--model", action="append", dest="systems", default=[], metavar="NAME=FOLDER[:ADAPTER]",
        help="a checkpoint (tiny: the bundled one) and how it is called; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--join", action="append", default=[], metavar="NAME=FOLDER", help="videos made elsewhere; may be repeated"
    )
    parser.add_argument(
        "--pattern", default="{id}.mp4", help="their names, with {id}, {index} or {prompt} (default: {id}.mp4)"
    )
    parser.add_argument("-o", "--output", required=True, metavar="STUDY", help="folder of the study")
    parser.add_argument("--limit", type=int, help="how many prompts at most")
    parser.add_argument("--seed", type=int, default=2026, help="of the first prompt; the others count on")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="this process's share of the prompts")
    add_request_flags(parser, SETTINGS, help="default: the checkpoint's")
    return parser


def run_generate(args: argparse.Namespace) -> int:
    from hunyuan_video.evaluation.generation import generate, joined_of, system_of
    from hunyuan_video.evaluation.suites import read_suite

    try:
        which, parts = (int(piece) for piece in args.part.split("/"))
    except ValueError:
        raise ArgumentError(f"--part {args.part!r}: write I/N, for example 0/4") from None
    settings = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    systems = [system_of(text, settings) for text in args.systems]
    systems += [joined_of(text, args.pattern) for text in args.join]
    if not systems:
        raise ArgumentError("name a system with --model NAME=FOLDER or --join NAME=FOLDER")
    suite = read_suite(args.suite, limit=args.limit, seed=args.seed)
    for line in suite.notes():
        print(f"note: {line}", file=sys.stderr)
    made = generate(Path(args.output), suite, systems, part=(which, parts), say=print)
    print(f"{args.output}: {len(suite.items)} prompts, {made} videos made now")
    return 0
