"""A folder of small valid inputs of every kind that the commands read, made once by the commands themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import yaml
from helpers.random_checkpoint import write_random_checkpoint

from hunyuan_video.cli import main
from hunyuan_video.models.lora import add_adapter, lora_layers

PROMPT = "a red star moves left"
SETTINGS = {
    "height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 2, "true_cfg_scale": 1.0, "text_length": 16,
    "world": "narrow",
}  # fmt: skip
BUCKET = ["--bucket", "5x32x32"]
MODEL = {"hidden_size": 32, "num_heads": 2, "double_blocks": 1, "single_blocks": 1, "rope_dims": [4, 6, 6]}
LOOP = {"steps": 4, "batch": 2, "save_every": 1, "keep": 8, "sheet_every": 0, "log_every": 1, "precision": "fp32"}


def build(folder: Path) -> Path:
    """Fills `folder`: checkpoint, official, adapter, state, latents, media, dataset, videos, run."""
    checkpoint = write_random_checkpoint(folder / "checkpoint")
    sampling = json.loads((checkpoint / "sampling.json").read_text())
    (checkpoint / "sampling.json").write_text(json.dumps({**sampling, **SETTINGS}))
    command("convert", checkpoint, folder / "official", "--layout", "official")
    write_adapter_files(checkpoint, folder)
    write_state(checkpoint, folder)
    sample = ("sample", PROMPT, "--seed", 1, "--model", checkpoint, "--device", "cpu")
    media = folder / "media"
    media.mkdir()
    endings = ("mp4", "gif", "webp", "apng", "safetensors")
    command(*sample, *(word for ending in endings for word in ("-o", media / f"clip.{ending}")))
    command(*sample, "--num-frames", 1, "-o", media / "picture.png", "-o", media / "picture.webp")
    shutil.move(media / "clip.safetensors", folder / "state" / "latents.safetensors")
    write_videos(media, folder / "videos")
    narrow = ("encode", "toyworld:narrow", "--clips", 6, "--captions", 1, *BUCKET, "--model", checkpoint)
    command(*narrow, "-o", folder / "dataset")
    write_run(folder)
    return folder


def command(*words: object) -> None:
    """A command that must do well."""
    code = main([str(word) for word in words])
    if code:
        raise RuntimeError(f"exit {code}: {words}")


def write_adapter_files(checkpoint: Path, folder: Path) -> None:
    from hunyuan_video.checkpoints.lora import save_adapter
    from hunyuan_video.models import HunyuanVideoTransformer

    torch.manual_seed(3)
    model = HunyuanVideoTransformer.from_pretrained(checkpoint / "transformer")
    ranks = {"double_blocks.0.img_attn_qkv": 2, "single_blocks.0.linear1": 2, "single_blocks.0.linear2": 2}
    add_adapter(model, "a", ranks, dict.fromkeys(ranks, 2.0))
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.adapter("a").lora_B.normal_(std=0.3)
    (folder / "adapter").mkdir()
    save_adapter(model, "a", folder / "adapter" / "adapter.safetensors")
    command("convert", folder / "adapter" / "adapter.safetensors", folder / "adapter" / "kohya.safetensors",
            "--names", "kohya", "--model", checkpoint)  # fmt: skip


def write_state(checkpoint: Path, folder: Path) -> None:
    """The state of a sampling that was stopped after its first step."""
    from hunyuan_video import HunyuanVideoPipeline

    (folder / "state").mkdir()
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    stream = pipe.stream(PROMPT, seed=1, solver="ab2", checkpoint_to=folder / "state" / "state.safetensors")
    next(stream)
    stream.close()


def write_videos(media: Path, folder: Path) -> None:
    folder.mkdir()
    rows = []
    for path in sorted(media.iterdir()):
        shutil.copy(path, folder / path.name)
        (folder / f"{path.name}.txt").write_text(f"a video: {path.name}\n")
        rows.append({"path": path.name, "caption": [path.name, "another sentence"]})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(f"# clips\n{text}")


def write_run(folder: Path) -> None:
    """Recipes, and a run of the first one that ended after two of its steps."""
    recipe = {
        "kind": "flow_encoded", "output": "run", "data": "dataset", "checkpoint": "checkpoint", "model": MODEL,
        "held_out": 1, "workers": 0, "sample_steps": 1, "cfg_scale": 1.0, "loop": LOOP,
        "optimizer": {"lr": 1e-3, "warmup_steps": 1, "decay": 0.2, "ema": 0.9},
    }  # fmt: skip
    recipe["model"] = {**MODEL, "text_dim": 16, "pooled_text_dim": 16, "guidance_embed": False}
    (folder / "recipes").mkdir()
    (folder / "recipes" / "encoded.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    short = dict(
        recipe, output=str(folder / "run"), data=str(folder / "dataset"), checkpoint=str(folder / "checkpoint")
    )
    short["loop"] = {**LOOP, "steps": 2}
    path = folder / "recipes" / "short.yaml"
    path.write_text(yaml.safe_dump(short))
    command("train", path)
    path.unlink()
