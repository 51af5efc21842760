"""`hunyuan-video serve`: video jobs over HTTP, for OpenAI's client and any other."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from hunyuan_video.cli.options import add_model_options
from hunyuan_video.errors import ArgumentError, UserError

KEY_VARIABLE = "HUNYUAN_VIDEO_API_KEY"
LIMITS = {
    "active": (int, "N", "jobs that a worker interleaves, a step of each in turn"),
    "max_queue": (int, "N", "jobs that wait at most; more are answered 429"),
    "max_queue_per_key": (int, "N", "the same for each API key"),
    "max_upload_mb": (float, "MB", "size of a request"),
    "max_image_megapixels": (float, "MP", "size of an uploaded picture, decoded"),
    "keep_days": (float, "DAYS", "videos are deleted this long after their end"),
    "max_disk_gb": (float, "GB", "the oldest videos are deleted above this"),
    "drain_seconds": (float, "S", "for steps to end after SIGTERM"),
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("serve", help="video jobs over HTTP: the OpenAI videos API")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; one that others reach needs a key")
    parser.add_argument("--port", type=int, default=8000, help="0: a free one, which is printed")
    parser.add_argument("--data", metavar="FOLDER", default="outputs/serve", help="of the jobs and their videos")
    parser.add_argument(
        "--api-key", action="append", metavar="KEY",
        help=f"repeatable: each sees its own videos; better in ${KEY_VARIABLE}, which no process list shows",
    )  # fmt: skip
    parser.add_argument("--loras", metavar="FOLDER", help="of .safetensors files that requests may name")
    parser.add_argument("--worker", action="append", metavar="DEVICE", help="repeatable: a worker on each, e.g. cuda:1")
    limits = parser.add_argument_group("limits")
    for name, (kind, metavar, text) in LIMITS.items():
        limits.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    add_model_options(parser, adapter=True)
    return parser


def run(args: argparse.Namespace) -> int:
    try:
        from hunyuan_video.serving.server import serve
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs the package {error.name}; pip install 'hunyuan-ext[serve]'") from error
    from hunyuan_video.serving.config import ServerConfig

    if args.worker and args.device:
        raise ArgumentError("give --worker for each device, or --device for one, not both")
    keys = args.api_key or os.environ.get(KEY_VARIABLE, "").split()
    limits = {name: value for name in LIMITS if (value := getattr(args, name)) is not None}
    config = ServerConfig(
        data=Path(args.data),
        model=args.model or "tiny",
        host=args.host,
        port=args.port,
        api_keys=tuple(keys),
        devices=tuple(args.worker or ([args.device] if args.device else ())),
        dtype=args.dtype,
        adapter=args.adapter,
        threads=args.threads,
        loras=None if args.loras is None else Path(args.loras),
        **limits,
    )
    serve(config, lambda line: print(line, file=sys.stderr, flush=True))
    return 0
