"""`hunyuan-video plan`: memory and time of a `sample` command before it, on this machine or another GPU."""

from __future__ import annotations

import argparse
import json
from typing import Any

from hunyuan_video.cli.job import PIPELINE_OPTIONS
from hunyuan_video.cli.options import add_memory_options, add_request_flags, torch_dtype

DEFAULT_MODEL = "released"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("plan", help="memory and time of a run before it starts, also for other GPUs")
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="not read; so that a sample command can be planned")
    add_request_flags(parser.add_argument_group("the video"), PIPELINE_OPTIONS)
    group = parser.add_argument_group("model and machine")
    group.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME|FOLDER",
        help="tiny, a checkpoint folder, or released (the default): the 13B model, without its weights",
    )  # fmt: skip
    group.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="as for sample")
    group.add_argument("--device", help="cpu or cuda; default cuda with --gpu or --device-memory, or if there is one")
    group.add_argument("--gpu", metavar="NAME", help="plan for this card, such as h200 or rtx4090")
    group.add_argument("--gpus", type=int, default=1, metavar="N", help="plan for N ranks of torchrun on one machine")
    group.add_argument("--vae-mode", choices=("auto", "plain", "tiled", "exact"), default="auto", help="as for sample")
    add_memory_options(group)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.planning.run_plan import plan_lines
    from hunyuan_video.sampling.planned import plan_sampling

    given: dict[str, Any] = {name: getattr(args, name) for name in PIPELINE_OPTIONS}
    plan = plan_sampling(
        args.model, given, device=args.device, dtype=torch_dtype(args.dtype), precision=args.precision,
        memory=args.memory or "auto", device_memory=args.device_memory, host_memory=args.host_memory, gpu=args.gpu,
        vae_mode=args.vae_mode, ranks=args.gpus,
    )  # fmt: skip
    if args.json:
        print(json.dumps(plan.as_dict(), indent=1))
        return 0
    print(f"{'stage':18}{'GPU GB':>9}{'host GB':>9}{'seconds':>10}")
    for stage in plan.stages:
        time = "-" if stage.seconds is None else f"{stage.seconds:.0f}"
        print(f"{stage.name:18}{stage.device_bytes / 1e9:9.2f}{stage.host_bytes / 1e9:9.2f}{time:>10}")
    for line in (*plan_lines(plan), *plan.notes):
        print(line)
    return 0
