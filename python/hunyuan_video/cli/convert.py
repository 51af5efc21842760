"""`hunyuan-video convert`: checkpoints between the official and the diffusers layout, adapters between names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hunyuan_video.cli.options import DTYPES
from hunyuan_video.errors import ArgumentError, UserError

QUANTIZED = ("fp8", "int8")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("convert", help="convert a checkpoint between layouts, or an adapter between names")
    parser.add_argument(
        "source", metavar="SOURCE", help="a weight file, a component's folder or a whole checkpoint folder; an adapter"
    )
    parser.add_argument(
        "destination", metavar="DESTINATION", help="what to write: a folder, or a .safetensors or .pt file"
    )
    parser.add_argument("--layout", choices=("diffusers", "official"), help="layout of the destination")
    parser.add_argument(
        "--names",
        choices=("diffusers", "official", "kohya"),
        help="of an adapter (LoRA): whose names to write; official ones are read by ComfyUI",
    )
    parser.add_argument(
        "--model", metavar="FOLDER", help="with --names: the checkpoint that the adapter is for; default the 13B model"
    )
    parser.add_argument(
        "--dtype", choices=(*DTYPES, *QUANTIZED),
        help="of the weights; default as stored; fp8 and int8 are for the linears of the transformer's blocks",
    )  # fmt: skip
    parser.add_argument(
        "--keep", metavar="PATTERNS",
        help="with fp8 and int8: linears that stay as stored, e.g. '*_mod.linear,single_blocks.0.*'; none: quantize all"
        " of the blocks, as the released FP8 file; default the modulations",
    )  # fmt: skip
    parser.add_argument("--report", action="store_true", help="with fp8 and int8: print the error of every layer")
    return parser


def run(args: argparse.Namespace) -> int:
    if (args.layout is None) == (args.names is None):
        raise ArgumentError("give --layout for a checkpoint, or --names for an adapter (LoRA)")
    if args.model is not None and args.names is None:
        raise ArgumentError("--model goes with --names: it says which checkpoint an adapter is for")
    quantized = args.dtype in QUANTIZED
    if args.names and quantized:
        raise ArgumentError(f"--dtype {args.dtype} is for checkpoints; an adapter is small: bfloat16 or float16")
    if (args.keep is not None or args.report) and not quantized:
        raise ArgumentError("--keep and --report go with --dtype fp8 or int8")
    for path in [_adapter(args)] if args.names else _checkpoint(args):
        print(path)
    return 0


def _check_room(args: argparse.Namespace) -> None:
    """UserError where a .pt file, which is made in memory, would be larger than what is free of it."""
    from hunyuan_video.checkpoints.layout import BUNDLED
    from hunyuan_video.checkpoints.locate import components_at, open_checkpoint
    from hunyuan_video.cli.options import torch_dtype
    from hunyuan_video.planning.budget import shown
    from hunyuan_video.planning.room import free_bytes, weight_bytes

    source, free = BUNDLED.get(args.source, Path(args.source)), free_bytes()
    streams = args.layout != "official" or args.destination.endswith(".safetensors") or args.dtype in QUANTIZED
    if free is None or streams or not source.exists():
        return
    for part in components_at(source):
        infos = open_checkpoint(source, part).source.infos.values()
        needed = weight_bytes(infos, torch_dtype(args.dtype))
        if needed > free:
            text = f"a .pt file is made in memory: {source} needs {shown(needed)}, {shown(free)} are free"
            raise UserError(f"{text}; write a .safetensors file or --layout diffusers, which stream")


def _checkpoint(args: argparse.Namespace) -> list[Path]:
    from hunyuan_video.checkpoints import convert
    from hunyuan_video.checkpoints.quantized import MODULATIONS, LayerError, error_table

    _check_room(args)
    keep: Sequence[str] = MODULATIONS
    if args.keep is not None:
        keep = () if args.keep == "none" else args.keep.split(",")
    errors: dict[str, LayerError] = {}
    paths = convert(args.source, args.destination, args.layout, args.dtype, keep=keep, errors=errors)
    for line in error_table(errors) if args.report else ():
        print(line)
    return paths


def _adapter(args: argparse.Namespace) -> Path:
    from hunyuan_video.checkpoints.layout import checkpoint_folder
    from hunyuan_video.checkpoints.locate import open_checkpoint
    from hunyuan_video.checkpoints.lora import convert_adapter
    from hunyuan_video.cli.options import torch_dtype
    from hunyuan_video.models import TransformerConfig

    config = None
    if args.model is not None:
        config = open_checkpoint(checkpoint_folder(args.model), "transformer").config
        assert isinstance(config, TransformerConfig)
    return convert_adapter(args.source, args.destination, args.names, torch_dtype(args.dtype), config)
