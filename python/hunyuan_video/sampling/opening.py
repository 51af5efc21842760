"""Opening a checkpoint for sampling: loaded as a whole or streamed, in a precision, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hunyuan_video.checkpoints.adapters import warn_displaced
from hunyuan_video.checkpoints.layout import PARTS, checkpoint_folder
from hunyuan_video.checkpoints.pipeline import default_device, default_dtype, read_sampling_json, usable_dtype
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.planning.budget import parse_size
from hunyuan_video.planning.run_plan import MEMORY_MODES, RESERVED, SLACK, RunPlan, plan_lines
from hunyuan_video.rules import check_choice
from hunyuan_video.sampling.host import own_precision
from hunyuan_video.sampling.models import LoadedModels, read_defaults
from hunyuan_video.sampling.planned import PRECISIONS, plan_sampling
from hunyuan_video.sampling.staged import StagedModels


def open_models(
    path: str | Path = "tiny",
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    parts: Sequence[str] = PARTS,
    adapter: str | None = None,
    precision: str | None = None,
    memory: str = "auto",
    device_memory: str | int | None = None,
    host_memory: str | int | None = None,
    plan: RunPlan | None = None,
) -> LoadedModels:
    """The models of a checkpoint; the arguments are those of `HunyuanVideoPipeline.from_pretrained`.

    plan: of the run that is to come; made here for the checkpoint's own size where limits are given and it is missing.
    UserError where that does not fit.
    """
    check_choice("memory", memory, MEMORY_MODES)
    if precision is not None:
        check_choice("precision", precision, PRECISIONS)
    if "transformer" not in parts:
        raise ArgumentError("parts must contain 'transformer'")
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise UserError(f"a checkpoint has no part {unknown[0]!r}; its parts are {', '.join(PARTS)}")
    chosen = default_device() if device is None else torch.device(device)
    folder = checkpoint_folder(path)
    warn_displaced(folder, read_sampling_json(folder), adapter)
    limited = device_memory is not None or host_memory is not None
    if plan is None and (precision == "auto" or (limited and memory != "resident")):
        plan = plan_sampling(
            str(path), {}, device=chosen, dtype=dtype, precision=precision, memory=memory, device_memory=device_memory,
            host_memory=host_memory, adapter=adapter, output_type="np" if "vae" in parts else "latent",
        )  # fmt: skip
    if plan is not None:
        refuse(plan)
    if precision == "auto":
        precision = plan.choices["precision"] if plan is not None else None
        precision = precision if precision == "fp8" else None
    streams = memory == "stream" or (memory == "auto" and plan is not None and plan.choices["memory"] == "stream")
    wide = torch.bfloat16 if precision == "bf16" else dtype
    quantize: Any = precision if precision in ("fp8", "int8") else None
    if not streams:
        return LoadedModels.from_pretrained(
            path, dtype=wide, device=chosen, parts=parts, adapter=adapter, quantize=quantize
        )
    with own_precision(chosen):
        return StagedModels(
            folder, str(path), parts, dtype=usable_dtype(wide, chosen) or default_dtype(chosen), device=chosen,
            adapter=adapter, quantize=quantize, defaults=read_defaults(folder, adapter),
            limit=_limit(chosen, device_memory, host_memory),
            keep=plan.choices.get("kept_blocks", 0) if plan is not None else 0,
        )  # fmt: skip


def refuse(plan: RunPlan) -> None:
    """UserError for a run that does not fit, before anything is loaded."""
    if not plan.fits:
        memory, _, verdict = plan_lines(plan)
        raise UserError(f"{verdict} ({memory})")


def _limit(device: torch.device, device_memory: str | int | None, host_memory: str | int | None) -> int | None:
    """Bytes for everything in the memory where the models run, as given."""
    device_bytes = None if device_memory is None else parse_size("device_memory", device_memory)
    if device.type != "cpu":
        return None if device_bytes is None else int((device_bytes - RESERVED) / SLACK)
    host_bytes = None if host_memory is None else parse_size("host_memory", host_memory)
    return min((size for size in (device_bytes, host_bytes) if size is not None), default=None)
