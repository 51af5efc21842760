"""Puts trained parts together as a checkpoint folder in diffusers layout, with its sampling defaults."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from hunyuan_video.checkpoints.layout import ADAPTERS, COMPONENTS, MODEL_INDEX, SAMPLING, SCHEDULER
from hunyuan_video.checkpoints.pipeline_folder import complete
from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile
from hunyuan_video.errors import Print, UserError
from hunyuan_video.files import staged_folder, write_json
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer
from hunyuan_video.sampling.request import SamplingDefaults
from hunyuan_video.training.config import BundleRun, build
from hunyuan_video.training.parts import TEXT_FOLDERS, copy_text, read_text_json

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
OURS = {ADAPTERS, SAMPLING, MODEL_INDEX, SCHEDULER.parts[0], *COMPONENTS, *TEXT_FOLDERS}


def execute(config: BundleRun, report: Print = print) -> None:
    """Write config.output, replacing an older bundle there only when the new one is complete and small enough.
    UserError where the folder holds anything else: that would be lost.
    """
    check(config)
    target = Path(config.output)
    with staged_folder(target, may_replace=lambda entry: entry.name in OURS) as folder:
        fill(folder, config)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        if megabytes > config.limit_mb:
            raise UserError(
                f"bundle: {megabytes:.1f} MB is over limit_mb = {config.limit_mb}; train smaller models or raise it"
            )
    report(f"{target}: {megabytes:.2f} MB")


def check(config: BundleRun) -> None:
    """UserError for adapters that are none, and for sampling defaults that nothing can be sampled with."""
    for name, file in config.adapters.items():
        if not isinstance(name, str) or not isinstance(file, str) or Path(name).name != name:
            raise UserError(f"adapters: {name!r}: {file!r} must be a plain name and the path of an adapter's file")
        SafetensorsFile(Path(file))
    for where, values in (("sampling", config.sampling), *config.sampling.get("adapters", {}).items()):
        known = {key: value for key, value in values.items() if key in SamplingDefaults.__dataclass_fields__}
        build(SamplingDefaults, known, where)


def fill(folder: Path, config: BundleRun) -> None:
    """All parts of the checkpoint into an empty folder."""
    dtype = DTYPES[config.dtype]
    HunyuanVideoTransformer.from_pretrained(config.transformer, dtype=dtype).save_pretrained(folder / "transformer")
    CausalVAE.from_pretrained(config.vae, dtype=dtype).save_pretrained(folder / "vae")
    text = read_text_json(Path(config.text))
    copy_text(Path(config.text), folder)
    for name, file in config.adapters.items():
        (folder / ADAPTERS).mkdir(exist_ok=True)
        shutil.copyfile(file, folder / ADAPTERS / f"{name}.safetensors")
    defaults = {**config.sampling, "text_length": text["text_length"], "prompt_template": text["prompt_template"]}
    write_json(folder / SAMPLING, defaults, indent=2)
    complete(folder, folder, COMPONENTS)
