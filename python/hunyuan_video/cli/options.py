"""Options that several commands share, and their effects."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hunyuan_video.errors import ArgumentError
from hunyuan_video.rules import Choice
from hunyuan_video.sampling.request import ARGUMENTS, flag_of

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def add_request_flags(group: argparse._ActionsContainer, names: Iterable[str], help: str | None = None) -> None:
    """Flags of a sampling run's arguments, None where they are left out. help: in the place of each one's own."""
    for name in names:
        known = ARGUMENTS[name]
        words = known.rule.words if isinstance(known.rule, Choice) else None
        group.add_argument(
            flag_of(name),
            dest=name,
            type=known.flag or str,
            metavar=known.metavar,
            choices=words if isinstance(words, tuple) else None,  # others are listed by the check
            help=help or known.help,
        )


def add_model_options(parser: argparse.ArgumentParser, *, adapter: bool = False) -> argparse._ActionsContainer:
    """Model, dtype, device and threads; without `adapter` they are those of a VAE."""
    part, default = ("transformer", "bfloat16") if adapter else ("VAE", "float16")
    group = parser.add_argument_group("model and machine")
    group.add_argument("--model", metavar="NAME|FOLDER", help="tiny (bundled, the default) or a checkpoint folder")
    if adapter:
        group.add_argument(
            "--adapter", metavar="NAME|FILE|FOLDER[:WEIGHT],...",
            help="LoRAs: of the checkpoint, .safetensors files or their folders; none: the plain model; default the "
            "checkpoint's",
        )  # fmt: skip
    group.add_argument("--dtype", choices=DTYPES, help=f"of the {part}; default {default} on a GPU, float32 on a CPU")
    group.add_argument("--device", help="cpu, cuda, cuda:1, ...; default the GPU if there is one")
    group.add_argument("--threads", type=int, help="CPU threads; default all cores")
    return group


def add_memory_options(group: argparse._ActionsContainer) -> None:
    """--precision, --memory and the limits."""
    group.add_argument(
        "--precision", choices=("auto", "bf16", "fp8", "int8"),
        help="of the transformer's blocks; default as stored; auto: fp8 where nothing else fits",
    )  # fmt: skip
    group.add_argument(
        "--memory", choices=("auto", "resident", "stream"),
        help="resident: all weights stay; stream: they come block by block; auto (default): the first that fits",
    )  # fmt: skip
    group.add_argument("--device-memory", metavar="SIZE", help="what the run may take of the GPU, such as 16GB")
    group.add_argument("--host-memory", metavar="SIZE", help="what it may take of the host, such as 32GB")


def add_output_options(parser: argparse.ArgumentParser, *, latents: bool = True) -> None:
    """Output names and how they look. latents: the command also writes them."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o", "--output", action="append", metavar="FILE",
        help="repeatable; .mp4, .gif, .webp, .apng, .png, a folder ending in / (PNG frames)"
        + (", or .safetensors (latents)" if latents else ""),
    )  # fmt: skip
    group.add_argument("--fps", type=float, help="frames per second; default the checkpoint's")
    group.add_argument(
        "--contact-sheet", action="store_true", help="let a .png hold all frames of a video side by side"
    )
    add_request_flags(group, (name for name, known in ARGUMENTS.items() if known.group == "output" and known.flag))


def chosen_device(args: argparse.Namespace) -> torch.device:
    """The torch device of --device, and the thread count of --threads set; ArgumentError if there is no such device."""
    import torch

    if args.threads is not None:
        if args.threads < 1:
            raise ArgumentError(f"--threads must be at least 1, got {args.threads}")
        torch.set_num_threads(args.threads)
    if args.device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return working_device(args.device)


def working_device(name: str) -> torch.device:
    """The torch device of a name; ArgumentError if there is no such device."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device, dtype=torch.float32)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(f"--device {name} does not work here: {str(error).splitlines()[0]}") from error
    return device


def torch_dtype(name: str | None) -> torch.dtype | None:
    """The dtype of a name in DTYPES."""
    import torch

    return None if name is None else getattr(torch, name)
