"""`hunyuan-video curate`: raw videos to a manifest of scored clips, and `curate report` to look at them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hunyuan_video.cli.progress import progress_of
from hunyuan_video.errors import ArgumentError, UserError

REPORT = "report"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "curate",
        help="cut raw videos into clips, score and filter them",
        description="curate SOURCES... -o OUT: cut videos into clips and score them, into OUT/manifest.parquet. "
        "curate report OUT: write OUT/report.html, with pictures of what each filter keeps and refuses.",
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a folder, a video, a glob or a .jsonl manifest")
    parser.add_argument("-o", "--output", help="folder of the manifest")
    parser.add_argument("-c", "--tiers", metavar="FILE", help="YAML of thresholds; changing it decodes nothing again")
    parser.add_argument("--workers", type=int, help="processes; default one for each core")
    parser.add_argument("--engine", default="local", help="local: processes of this machine")
    parser.add_argument("--limit", type=int, help="how many sources at most")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="this machine's share of the sources")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.sources[0] == REPORT and args.output is None:
        return _report(args)
    from hunyuan_video.curation.run import CurateRequest, curate

    if args.output is None:
        raise ArgumentError("say with -o into which folder; or: hunyuan-video curate report FOLDER")
    try:
        which, parts = (int(piece) for piece in args.part.split("/"))
    except ValueError:
        raise ArgumentError(f"--part {args.part!r}: write I/N, for example 0/4") from None
    tiers = None if args.tiers is None else Path(args.tiers)
    request = CurateRequest(
        tuple(args.sources), Path(args.output), tiers, args.workers, args.engine, args.limit, (which, parts)
    )
    try:
        summary = curate(
            request, lambda line: print(line, file=sys.stderr, flush=True), progress_of("curating", "source")
        )
    except KeyboardInterrupt:
        raise UserError("interrupted; finished sources are whole, the same command goes on from there") from None
    print(f"{args.output}: {summary}")
    for column, count in summary.refused_by.items():
        print(f"  refused by {column}: {count}")
    return 0 if summary.clips else 1


def _report(args: argparse.Namespace) -> int:
    from hunyuan_video.curation.report import write_report

    if len(args.sources) != 2:
        raise ArgumentError("write: hunyuan-video curate report FOLDER")
    print(write_report(Path(args.sources[1])))
    return 0
