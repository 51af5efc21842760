"""Puts trained parts together as a checkpoint folder in diffusers layout, with its sampling defaults."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch

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
    staged = target.with_name(target.name + ".new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    dtype = DTYPES[config.dtype]
    HunyuanVideoTransformer.from_pretrained(config.transformer, dtype=dtype).save_pretrained(staged / "transformer")
    CausalVAE.from_pretrained(config.vae, dtype=dtype).save_pretrained(staged / "vae")
    copy_text(Path(config.text), staged)
    for name, file in config.adapters.items():
        (staged / "adapters").mkdir(exist_ok=True)
        shutil.copyfile(file, staged / "adapters" / f"{name}.safetensors")
    shift = config.sampling.get("flow_shift", 1.0)
    scheduler = {"_class_name": MODEL_INDEX["scheduler"][1], "num_train_timesteps": 1000, "shift": shift}
    facts = text_facts(Path(config.text))
    sampling = {**config.sampling, "text_length": facts["text_length"], "prompt_template": facts["prompt_template"]}
    (staged / "scheduler").mkdir()
    files = {"model_index.json": MODEL_INDEX, "sampling.json": sampling, "scheduler/scheduler_config.json": scheduler}
    for name, content in files.items():
        (staged / name).write_text(json.dumps(content, indent=2) + "\n")
    megabytes = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file()) / 1e6
    if megabytes > config.limit_mb:
        raise UserError(
            f"bundle: {megabytes:.1f} MB is over limit_mb = {config.limit_mb}; train smaller models or raise it"
        )
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(staged, target)
    shutil.rmtree(old, ignore_errors=True)
    report(f"{target}: {megabytes:.2f} MB")
