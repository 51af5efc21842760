"""`hunyuan-video encode`: latents and text features ahead of training."""

from __future__ import annotations

import argparse
from pathlib import Path

from hunyuan_video.cli.options import working_device
from hunyuan_video.cli.progress import progress_of
from hunyuan_video.errors import ArgumentError, Interruption


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("encode", help="encode videos and captions ahead of training")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder of videos beside .txt captions, a .jsonl manifest, a manifest.parquet of curate, or "
        "toyworld:narrow",
    )
    parser.add_argument("-o", "--output", required=True, help="folder of the data set")
    parser.add_argument(
        "--bucket",
        action="append",
        default=[],
        metavar="FxHxW",
        help="frames x height x width, e.g. 17x64x64; repeatable",
    )
    parser.add_argument("--tier", metavar="NAME", help="which clips of a manifest.parquet, for example 256p")
    parser.add_argument("--model", default="tiny", help="checkpoint whose VAE and text encoders are used")
    parser.add_argument("--clips", type=int, help="how many clips (toyworld: default 512; files: all)")
    parser.add_argument(
        "--captions", type=int, default=4, help="sentences for each clip of the toyworld or of a manifest.parquet"
    )
    parser.add_argument("--fps", type=float, default=24.0, help="frames per second taken from a video")
    parser.add_argument("--seed", type=int, default=1, help="of the toyworld")
    parser.add_argument("--shard", type=int, default=256, help="clips in a shard")
    parser.add_argument("--batch", type=int, default=8, help="clips encoded at once")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="this machine's share of the shards")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--image-first", action="store_true",
        help="encode each clip's first frame alone, as image-to-video training wants it",
    )  # fmt: skip
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.data.encode import EncodeRequest, encode

    try:
        which, parts = (int(piece) for piece in args.part.split("/"))
    except ValueError:
        raise ArgumentError(f"--part {args.part!r}: write I/N, for example 0/4") from None
    if not 0 < args.fps < float("inf") or (args.clips is not None and args.clips < 1):
        raise ArgumentError("--fps and --clips must be positive")
    if args.device != "cpu":
        working_device(args.device)
    request = EncodeRequest(
        args.source, Path(args.output), tuple(args.bucket), args.model, args.clips, args.captions, args.fps,
        args.seed, args.shard, args.batch, (which, parts), args.workers, args.device, args.image_first, args.tier,
    )  # fmt: skip
    try:
        summary = encode(request, lambda line: print(line, flush=True), progress_of("encoding", "clip"))
    except KeyboardInterrupt:
        raise Interruption("interrupted; finished shards are whole, the same command goes on from there") from None
    print(f"{args.output}: {summary}")
    return 0
