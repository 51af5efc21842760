"""`hunyuan-video eval`: how well a toyworld checkpoint follows prompts it was not trained on; actions on videos."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from hunyuan_video.cli.compare import add_compare, add_metrics, run_compare, run_metrics
from hunyuan_video.cli.generate import add_generate, run_generate
from hunyuan_video.cli.options import add_request_flags
from hunyuan_video.cli.study import add_study, run_study
from hunyuan_video.errors import ArgumentError, UserError

SETTINGS = ("num_inference_steps", "true_cfg_scale", "guidance_scale", "flow_shift", "solver", "cache", "attention")
ACTIONS = {
    "generate": (add_generate, run_generate),
    "compare": (add_compare, run_compare),
    "metrics": (add_metrics, run_metrics),
    "study": (add_study, run_study),
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("eval", help="measure prompt following on held-out toyworld prompts")
    parser.add_argument("--model", default="tiny", help="a checkpoint trained on a toyworld (default: tiny)")
    parser.add_argument("--prompts", type=int, default=200, metavar="N", help="held-out prompts (default: 200)")
    parser.add_argument("--seed", type=int, default=2026, help="seed of the prompts and of the noise (default: 2026)")
    add_request_flags(parser, SETTINGS, help="default: the checkpoint's")
    parser.add_argument("--adapter", metavar="NAME|FILE", help="none: the plain model; default: the checkpoint's")
    parser.add_argument(
        "--against", metavar="MODEL", help="another checkpoint: both side by side on the prompts that both know"
    )
    parser.add_argument("--sheet", metavar="PNG", help="write a contact sheet of the first 16 clips")
    parser.add_argument("-o", "--output", metavar="JSON", help="write the table as JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions on videos, in place of the above")
    for add, _ in ACTIONS.values():
        add(actions).add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def run(args: argparse.Namespace) -> int:
    if args.action is not None:
        return ACTIONS[args.action][1](args)
    return measure_checkpoint(args)


def measure_checkpoint(args: argparse.Namespace) -> int:
    """Prompt following of a checkpoint, with the ceiling of its VAE."""
    from hunyuan_video import HunyuanVideoPipeline
    from hunyuan_video.checkpoints.adapters import adapter_name
    from hunyuan_video.checkpoints.layout import checkpoint_folder
    from hunyuan_video.checkpoints.pipeline import read_sampling_json
    from hunyuan_video.evaluation.image_to_video import as_lines, continuation
    from hunyuan_video.evaluation.prompt_following import (
        as_markdown,
        intervals,
        pipeline_generator,
        prompt_following,
        reconstruction,
        vae_psnr,
    )
    from hunyuan_video.evaluation.wobble import wobble_lines, wobble_table
    from hunyuan_video.files import write_json
    from hunyuan_video.media.sheets import contact_sheet

    if args.prompts < 2:
        raise ArgumentError(f"--prompts must be at least 2, got {args.prompts}")
    if args.against:
        return side_by_side(args)
    sampling = read_sampling_json(checkpoint_folder(args.model))
    world, trained_on = world_of(args.model)
    pipe = HunyuanVideoPipeline.from_pretrained(args.model, adapter=args.adapter)
    settings = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    started = time.perf_counter()
    reconstruct = reconstruction(pipe.vae)
    generate = pipeline_generator(pipe, **settings)
    images = bool(pipe.transformer.config.image_condition)
    shape = {"size": (pipe.defaults.height, pipe.defaults.width), "num_frames": pipe.defaults.num_frames}
    following = prompt_following(
        generate, world, args.prompts, images=images, reconstruct=reconstruct, seed=args.seed, trained_on=trained_on,
        **shape,
    )  # fmt: skip
    psnr = vae_psnr(reconstruct, world, min(args.prompts, 64), seed=args.seed, **shape)
    print(as_markdown(following.table, following.counts))
    continued = {}
    if images:
        real, reconstructed = following.real, following.reconstructed
        assert real is not None and reconstructed is not None  # a VAE was given
        rows = {"real clips": real, "reconstructed by the VAE": reconstructed, "generated": following.clips}
        continued = {"continuation": {row: continuation(clips, real) for row, clips in rows.items()}}
        print(as_lines(continued["continuation"]))
    trembling = {}
    if not images:
        trembling = {
            "wobble": wobble_table(generate, reconstruct, world, min(args.prompts, 32), seed=args.seed, **shape)
        }
        print(wobble_lines(trembling["wobble"]))
    print(f"VAE: {psnr['mean']:.2f} dB PSNR on held-out clips (worst {psnr['worst']:.2f}, best {psnr['best']:.2f})")
    unseen = "combinations that training never showed" if trained_on else "another seed than the training's"
    seconds = time.perf_counter() - started
    print(f"{args.prompts} prompts of the {world} world, {unseen}, seed {args.seed}, {seconds:.0f} s")
    if args.sheet:
        contact_sheet(Path(args.sheet), list(following.clips[:16]), following.prompts[:16])
        print(args.sheet)
    if args.output:
        used = {
            "adapter": adapter_name(sampling, args.adapter),
            **{name: settings.get(name, getattr(pipe.defaults, name, None)) for name in SETTINGS},
        }
        result = {"prompts": args.prompts, "seed": args.seed, "world": world, "trained_on": trained_on}
        write_json(
            Path(args.output),
            {
                **result,
                "settings": used,
                "table": following.table,
                "vae_psnr": psnr,
                "intervals": intervals(following.table["generated"], following.counts),
                **continued,
                **trembling,
            },  # fmt: skip
        )
    return 0


def world_of(model: str) -> tuple[str, dict[str, int] | None]:
    """Name of the toyworld that a checkpoint was trained on, and which clips of it. Raises UserError."""
    from hunyuan_video.checkpoints.layout import checkpoint_folder
    from hunyuan_video.checkpoints.pipeline import read_sampling_json
    from hunyuan_video.data.toyworld import WORLDS

    sampling = read_sampling_json(checkpoint_folder(model))
    if sampling.get("world") not in WORLDS:
        raise UserError(f"{model} was not trained on a toyworld (no `world` in its sampling.json); use --model tiny")
    return sampling["world"], sampling.get("training")


def side_by_side(args: argparse.Namespace) -> int:
    """Both checkpoints on the prompts that both know: a table, and as JSON."""
    from hunyuan_video import HunyuanVideoPipeline
    from hunyuan_video.evaluation.prompt_following import as_markdown, pipeline_generator
    from hunyuan_video.evaluation.side_by_side import Contender, compare
    from hunyuan_video.files import write_json

    if args.model == args.against:
        raise ArgumentError(f"--model and --against are both {args.model}; give two checkpoints")
    if args.sheet:
        raise ArgumentError("--sheet shows the clips of one checkpoint; leave it or --against out")
    settings = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    worlds = {model: world_of(model) for model in (args.against, args.model)}
    sides = []
    for model, (world, trained_on) in worlds.items():
        adapter = args.adapter if model == args.model else None
        pipe = HunyuanVideoPipeline.from_pretrained(model, adapter=adapter)
        used = settings if model == args.model else {}
        sides.append(Contender(model, world, trained_on, pipeline_generator(pipe, **used)))
    table = compare(sides[0], sides[1], args.prompts, args.seed)
    print(as_markdown(table))
    worse = [name for name, value in table["difference"].items() if value < 0]
    print(f"{args.model} is worse than {args.against} in: {', '.join(worse) or 'no column'}")
    print(f"{args.prompts} prompts that both know, seed {args.seed}; difference in pairs")
    if args.output:
        write_json(Path(args.output), {"prompts": args.prompts, "seed": args.seed, "table": table})
    return 0
