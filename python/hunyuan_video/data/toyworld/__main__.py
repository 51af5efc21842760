"""python -m hunyuan_video.data.toyworld report|sheet: how good the analyser is, and pictures of the world."""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from hunyuan_video.data.toyworld import WORLDS, caption, judge_clip, render, score, shuffled_floor
from hunyuan_video.data.toyworld.degrade import degrade
from hunyuan_video.data.toyworld.scene import AnyScene
from hunyuan_video.errors import UserError
from hunyuan_video.media.sheets import contact_sheet

_DEGRADED = ((0.7, 0.02), (1.0, 0.03), (1.5, 0.03), (2.0, 0.02))  # blur in pixels of 64, noise of the range 0..1


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.clips < 2:
            raise UserError(f"--clips is {options.clips}; give at least 2")
        options.run(options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hunyuan_video.data.toyworld", description=__doc__)
    commands = parser.add_subparsers(required=True)
    report = commands.add_parser("report", help="the analyser on real clips, blurred clips and shuffled prompts")
    report.set_defaults(run=_report)
    report.add_argument("--real-only", action="store_true", help="the clips themselves only")
    sheet = commands.add_parser("sheet", help="a contact sheet of captioned clips")
    sheet.add_argument("output", help="picture to write, such as sheet.png")
    sheet.set_defaults(run=_sheet)
    for command, clips in ((report, 200), (sheet, 16)):
        command.add_argument("--world", choices=sorted(WORLDS), default="full")
        command.add_argument("--split", choices=("train", "test"))
        command.add_argument("--clips", type=int, default=clips)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--frames", type=int, default=17)
        command.add_argument("--size", type=int, default=64)
    return parser


def _report(options: argparse.Namespace) -> None:
    scenes: Sequence[AnyScene] = WORLDS[options.world].scenes(options.clips, options.seed, options.split)
    start = time.process_time()
    clips = render(scenes, options.frames, options.size)
    drawn = time.process_time() - start
    print(f"world {options.world}, {options.clips} clips of {options.frames} frames at {options.size}x{options.size}")
    start = time.process_time()
    judgements = [judge_clip(clip, scene) for clip, scene in zip(clips, scenes, strict=True)]
    judged = time.process_time() - start
    ceiling = score(judgements, scenes)
    print(f"{'':34}" + "".join(f"{name:>17}" for name in ceiling))
    _print_row("ceiling: the clips themselves", ceiling)
    _print_row("floor: shuffled prompts", shuffled_floor(judgements, scenes))
    for blur, noise in () if options.real_only else _DEGRADED:
        worse = degrade(clips, blur * options.size / 64.0, noise, options.seed)
        row = score([judge_clip(clip, scene) for clip, scene in zip(worse, scenes, strict=True)], scenes)
        _print_row(f"blur {blur} of 64 px, noise {noise}", row)
    print(f"rendering {options.clips / drawn:.0f} clips/s, judging {judged / options.clips:.3f} s a clip (CPU time)")


def _print_row(name: str, fractions: dict[str, float]) -> None:
    print(f"{name:34}" + "".join(f"{value:>17.3f}" for value in fractions.values()), flush=True)


def _sheet(options: argparse.Namespace) -> None:
    scenes: Sequence[AnyScene] = WORLDS[options.world].scenes(options.clips, options.seed, options.split)
    clips = render(scenes, options.frames, options.size)
    texts = [caption(scene, random.Random(number)).text for number, scene in enumerate(scenes)]
    contact_sheet(Path(options.output), list(clips), texts, frames=6, scale=max(1, 96 // options.size))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
