"""Puts trained parts together as a checkpoint folder in diffusers layout, with its sampling defaults."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from hunyuan_video.checkpoints.atomic import staged_folder, write_json
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer
from hunyuan_video.training.config import BundleRun
from hunyuan_video.training.parts import copy_text, text_facts

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MODEL_INDEX = {
    "_class_name": "HunyuanVideoPipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "LlamaModel"],
    "text_encoder_2": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "tokenizer_2": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "HunyuanVideoTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLHunyuanVideo"],
}


def execute(config: BundleRun, report=print) -> None:
    """Write config.output, replacing what was there only when the new folder is complete and small enough."""
    if config.dtype not in DTYPES:
        raise UserError(f"bundle: dtype must be one of {', '.join(DTYPES)}, got {config.dtype!r}")
    target = Path(config.output)
    with staged_folder(target, may_replace=lambda entry: True) as folder:
        fill(folder, config)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        if megabytes > config.limit_mb:
            raise UserError(
                f"bundle: {megabytes:.1f} MB is over limit_mb = {config.limit_mb}; train smaller models or raise it"
            )
    report(f"{target}: {megabytes:.2f} MB")


def fill(folder: Path, config: BundleRun) -> None:
    """All parts of the checkpoint into an empty folder."""
    dtype = DTYPES[config.dtype]
    HunyuanVideoTransformer.from_pretrained(config.transformer, dtype=dtype).save_pretrained(folder / "transformer")
    CausalVAE.from_pretrained(config.vae, dtype=dtype).save_pretrained(folder / "vae")
    copy_text(Path(config.text), folder)
    for name, file in config.adapters.items():
        (folder / "adapters").mkdir(exist_ok=True)
        shutil.copyfile(file, folder / "adapters" / f"{name}.safetensors")
    shift = config.sampling.get("flow_shift", 1.0)
    scheduler = {"_class_name": MODEL_INDEX["scheduler"][1], "num_train_timesteps": 1000, "shift": shift}
    facts = text_facts(Path(config.text))
    sampling = {**config.sampling, "text_length": facts["text_length"], "prompt_template": facts["prompt_template"]}
    files = {"model_index.json": MODEL_INDEX, "sampling.json": sampling, "scheduler/scheduler_config.json": scheduler}
    for name, content in files.items():
        write_json(folder / name, content, indent=2)
