"""Plan of a request: which model, which device, which ways to run; the numbers are `planning.run_plan`'s."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.checkpoints.pipeline import default_dtype
from hunyuan_video.errors import ArgumentError
from hunyuan_video.models.transformer.step_cache import KEPT
from hunyuan_video.planning.budget import host_available, host_limit, parse_size
from hunyuan_video.planning.gpus import card_of
from hunyuan_video.planning.run_plan import MEMORY_MODES, PROCESS, Choice, Demand, RunPlan, Target, plan_run
from hunyuan_video.planning.sizes import RELEASED, Sizes, checkpoint_sizes, released_sizes
from hunyuan_video.rules import check_choice, check_count, method_of
from hunyuan_video.sampling.models import read_defaults
from hunyuan_video.sampling.request import SamplingDefaults, resolve_settings

PRECISIONS = ("auto", "bf16", "fp8", "int8")
SECOND_ORDER = {"heun": 2}


def plan_sampling(
    model: str,
    arguments: Mapping[str, Any],
    *,
    prompts: int = 1,
    batch_size: int = 1,
    vae_mode: str = "auto",
    output_type: str = "np",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    precision: str | None = None,
    memory: str = "auto",
    device_memory: str | int | None = None,
    host_memory: str | int | None = None,
    gpu: str | None = None,
    adapter: str | None = None,
    encodes: bool = True,
    ranks: int = 1,
) -> RunPlan:
    """Memory and time of a run before anything is loaded.

    model: a checkpoint's folder, "tiny", or "released": the 13B model, without weights. arguments: those of the request
    that are settings, None or missing: the checkpoint's defaults. gpu: plan for a card that need not be here.
    device_memory, host_memory: bytes, or "16GB"; default what this machine has, where the plan is for it. ranks: GPUs
    (on a CPU, processes) of one machine that make the video together.
    ArgumentError for what no run could take.
    """
    check_choice("memory", memory, MEMORY_MODES)
    if precision is not None:
        check_choice("precision", precision, PRECISIONS)
    sizes, defaults = _model(model, adapter)
    settings = resolve_settings(arguments, defaults, sizes.grid)
    target = replace(_target(device, gpu, device_memory, host_memory), ranks=check_count("ranks", ranks, 1024))
    demand = Demand(
        settings.num_frames, settings.height, settings.width, settings.steps,
        videos=prompts * settings.num_videos_per_prompt, batch=batch_size,
        calls=SECOND_ORDER.get(settings.solver, 1), guided=settings.true_cfg_scale > 1,
        vae_mode=vae_mode, latents_only=output_type == "latent", encodes=encodes,
        cached=0 if settings.cache is None else 1 + KEPT[method_of(settings.cache)[0]],
    )  # fmt: skip
    plan = plan_run(sizes, demand, target, ways(sizes, target, dtype, precision, memory))
    plan.choices = {"model": sizes.name, **plan.choices, "cache": settings.cache, "attention": settings.attention}
    return plan


def matters(model: str, arguments: Mapping[str, Any], device: torch.device) -> bool:
    """True unless a run takes a small part of the memory that there is, by a bound that costs nothing to make."""
    sizes, defaults = _model(model, None)
    settings = resolve_settings(arguments, defaults, sizes.grid)
    shape = settings.num_frames, settings.height, settings.width
    config, videos = sizes.transformer, settings.num_videos_per_prompt
    blocks = 24 * config.double_blocks + 12 * config.single_blocks
    weights = 8 * config.hidden_size**2 * (blocks + 40)
    weights += 4 * sum(part.elements for part in (sizes.text, sizes.clip) if part is not None)
    tokens = sizes.grid.tokens(*shape) + sizes.text_length
    pixels = videos * math.prod(shape)
    widest = max(sizes.vae.block_out_channels) if sizes.vae is not None else 0
    bound = PROCESS + weights + 2 * tokens * config.hidden_size * 4 * 30 + pixels * (36 + 20 * widest)
    there = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host_available()
    return there is None or 4 * bound > there


def _model(model: str, adapter: str | None) -> tuple[Sizes, SamplingDefaults]:
    if model == RELEASED:
        return released_sizes(), SamplingDefaults()
    folder = checkpoint_folder(model)
    return checkpoint_sizes(folder, str(model)), read_defaults(folder, adapter)


def ways(sizes: Sizes, target: Target, dtype: torch.dtype | None, precision: str | None, memory: str) -> list[Choice]:
    """Ways to keep the transformer, the exact and fast ones first; "auto" changes precision only if all else fails."""
    on_cpu = target.device == "cpu"
    wide = dtype or default_dtype(torch.device(target.device))
    stored = "fp8" if sizes.stored == "fp8" else ("float32" if wide == torch.float32 else "bf16")
    kinds = [stored]
    if precision == "bf16" and sizes.stored == "fp8":
        raise ArgumentError("precision: the checkpoint's blocks are FP8 already; use fp8 or auto")
    if precision == "bf16":
        kinds, wide = ["bf16"], torch.bfloat16
    elif precision in ("fp8", "int8"):
        if precision == "int8" and not on_cpu:
            raise ArgumentError("precision: int8 products are for CPUs; on a GPU use fp8")
        if precision == "int8" and sizes.stored == "fp8":
            raise ArgumentError("precision: the checkpoint's blocks are FP8 already; use fp8 or auto")
        kinds = [precision]
    elif precision == "auto" and stored != "fp8":
        kinds = [stored, "fp8"]
    modes = ["resident", "stream"] if memory == "auto" else [memory]
    return [Choice(kind, wide, mode) for kind in kinds for mode in modes]


def _target(
    device: torch.device | str | None, gpu: str | None, device_memory: str | int | None, host_memory: str | int | None
) -> Target:
    given = None if device_memory is None else parse_size("device_memory", device_memory)
    host = None if host_memory is None else parse_size("host_memory", host_memory)
    if gpu is not None:
        name, card = card_of(gpu)
        return Target("cuda", card.capability, name, given or int(card.memory * 1e9), host)
    here = torch.cuda.is_available()
    if device is None:
        kind = "cuda" if here or given is not None else "cpu"
    else:
        kind = torch.device(device).type
    if kind != "cuda":
        limit = host_limit()
        both = [size for size in (host, limit) if size is not None]
        return Target("cpu", None, "", given, min(both, default=None))
    if not here:
        return Target("cuda", (8, 0), "", given, host)
    index = torch.device(device or "cuda").index
    try:
        name = card_of(torch.cuda.get_device_name(index))[0]
    except ArgumentError:
        name = ""
    free = torch.cuda.mem_get_info(index)[0]
    limits = [size for size in (host, host_limit()) if size is not None]
    return Target(
        "cuda", torch.cuda.get_device_capability(index), name, min(free, given or free), min(limits, default=None)
    )
