"""`hunyuan-video curate`: raw videos to a manifest of scored clips; `curate report` and `calibrate` look at them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from hunyuan_video.cli.progress import progress_of
from hunyuan_video.errors import ArgumentError, UserError

KEEP, BATCH, TIMEOUT = 0.5, 4, 120.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "curate",
        help="cut raw videos into clips, score and filter them",
        description="curate SOURCES... -o OUT: cut videos into clips and score them, into OUT/manifest.parquet. "
        "curate report OUT: write OUT/report.html, with pictures of what each filter keeps and refuses. "
        "curate calibrate OUT: print percentiles of the scores and thresholds for a wanted keep-rate, as a tiers file. "
        "curate caption OUT --endpoint URL --model NAME: captions by a vision-language model; the environment "
        "variable OPENAI_API_KEY holds its key if it needs one.",
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a folder, a video, a glob or a .jsonl manifest")
    parser.add_argument("-o", "--output", help="folder of the manifest")
    parser.add_argument("-c", "--tiers", metavar="FILE", help="YAML of thresholds; changing it decodes nothing again")
    parser.add_argument("--workers", type=int, help="processes; default one for each core")
    parser.add_argument("--engine", default="local", help="local: processes of this machine; ray: a Ray cluster")
    parser.add_argument("--limit", type=int, help="how many sources at most")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="this machine's share of the sources")
    parser.add_argument("--tier", help="of calibrate: gets new thresholds; of caption: its clips alone")
    parser.add_argument("--keep", type=float, default=KEEP, help="of calibrate: share of the clips that shall stay")
    parser.add_argument("--endpoint", metavar="URL", help="of caption: an OpenAI-compatible server, up to and with /v1")
    parser.add_argument("--model", help="of caption: the model's name there")
    parser.add_argument("--batch", type=int, default=BATCH, help="of caption: clips that are asked for at a time")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="of caption: seconds to wait for an answer")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.output is None and args.sources[0] in ACTIONS:
        if len(args.sources) != 2:
            raise ArgumentError(f"write: hunyuan-video curate {args.sources[0]} FOLDER")
        return ACTIONS[args.sources[0]](args)
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
        summary = curate(request, _line, progress_of("curating", "source"))
    except KeyboardInterrupt:
        raise UserError("interrupted; finished sources are whole, the same command goes on from there") from None
    print(f"{args.output}: {summary}")
    for column, count in summary.refused_by.items():
        print(f"  refused by {column}: {count}")
    return 0 if summary.clips else 1


def _report(args: argparse.Namespace) -> int:
    from hunyuan_video.curation.report import write_report

    print(write_report(Path(args.sources[1])))
    return 0


def _calibrate(args: argparse.Namespace) -> int:
    from hunyuan_video.curation.calibrate import calibrate

    tiers = None if args.tiers is None else Path(args.tiers)
    for line in calibrate(Path(args.sources[1]), args.tier, args.keep, tiers):
        print(line)
    return 0


def _caption(args: argparse.Namespace) -> int:
    import os

    from hunyuan_video.curation.captioner import caption
    from hunyuan_video.curation.endpoint import Endpoint

    if args.endpoint is None:
        raise ArgumentError("say with --endpoint where the model is, for example http://localhost:8000/v1")
    endpoint = Endpoint(args.endpoint, args.model or "", os.environ.get("OPENAI_API_KEY", ""), args.timeout)
    output = Path(args.sources[1])
    try:
        summary = caption(output, endpoint, args.tier, args.batch, _line, progress_of("captioning", "clip"))
    except KeyboardInterrupt:
        raise UserError("interrupted; the captions that came are kept, the same command goes on from there") from None
    print(f"{output}: {summary}")
    return 1 if summary.missing else 0


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "report": _report,
    "calibrate": _calibrate,
    "caption": _caption,
}
