"""`hunyuan-video distill CONFIG`: `train` for recipes that make a faster model out of a trained one."""

from __future__ import annotations

import argparse

from hunyuan_video.cli import train
from hunyuan_video.errors import UserError

KINDS = ("guidance_distillation", "step_distillation")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    return train.add_run_options(
        commands.add_parser("distill", help="make a faster model: one pass for guidance, or a few steps"),
        example="tiny/distill_consistency",
    )


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.training.config import load_config

    kind = load_config(args.config, tuple(args.set)).kind
    if kind not in KINDS:
        raise UserError(f"{args.config} is a {kind} run, not a distillation; use hunyuan-video train {args.config}")
    return train.run(args)
