"""Files to damage, and the commands that read them: `{}` is a copy of the world, `out/` the place of results."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

SAMPLE = "sample 'a red star moves left' --seed 1 --device cpu -o out/v.mp4 --num-inference-steps 1"
DECODE = "decode state/latents.safetensors --device cpu -o out/v.gif"
ENCODE = "--bucket 5x32x32 --bucket 1x32x32 --model checkpoint --fps 8 -o out/data"
TRAIN = "--set output=out/run --set loop.steps=1"
NARROW = "encode toyworld:narrow --clips 6 --captions 1 --bucket 5x32x32 --model checkpoint -o dataset"


@dataclass(frozen=True)
class Target:
    """A file of the world and what reads it. folders: those that the commands need. changes: folders, names of which
    the commands may change.
    """

    path: str
    commands: tuple[str, ...]
    folders: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    def argv(self, number: int) -> list[str]:
        return shlex.split(self.commands[number])


def _checkpoint(path: str, *commands: str) -> Target:
    return Target(path, (f"{SAMPLE} --model checkpoint", "inspect checkpoint", *commands), ("checkpoint", "state"))


def _official(path: str, *commands: str) -> Target:
    return Target(path, (f"{SAMPLE} --model official", "inspect official", *commands), ("official", "state"))


def _media(name: str) -> Target:
    commands = (
        f"{SAMPLE} --model checkpoint --image videos/{name}",
        f"encode videos {ENCODE}",
        f"inspect videos/{name}",
        f"show videos/{name}",
    )
    return Target(f"videos/{name}", commands, ("checkpoint", "videos"))


def _data(path: str, *commands: str) -> Target:
    train = f"train recipes/encoded.yaml {TRAIN}"
    folders = ("checkpoint", "recipes", "dataset")
    return Target(path, (train, f"{train} --dry-run", "inspect dataset", NARROW, *commands), folders, ("dataset",))


def _run(path: str) -> Target:
    resume = "train recipes/encoded.yaml --set loop.steps=3 --resume"
    return Target(path, (resume, "inspect run"), ("checkpoint", "recipes", "dataset", "run"), ("run",))


TEXT = "text_encoder/model.safetensors"
WEIGHTS = "diffusion_pytorch_model.safetensors"
RELEASE = "hunyuan-video-t2v-720p"
TARGETS = (
    _checkpoint(f"checkpoint/transformer/{WEIGHTS}", "convert checkpoint out/c --layout official",
                "convert checkpoint/transformer out/t.safetensors --layout diffusers"),
    _checkpoint(f"checkpoint/vae/{WEIGHTS}", f"{DECODE} --model checkpoint",
                f"encode toyworld:narrow --clips 2 {ENCODE}", "convert checkpoint out/c --layout official"),
    _checkpoint(f"checkpoint/{TEXT}", "convert checkpoint out/c --layout official"),
    _checkpoint("checkpoint/text_encoder_2/model.safetensors"),
    Target("adapter/adapter.safetensors",
           (f"{SAMPLE} --model checkpoint --adapter adapter/adapter.safetensors", "inspect adapter/adapter.safetensors",
            "convert adapter/adapter.safetensors out/a.safetensors --names kohya --model checkpoint",
            "show adapter/adapter.safetensors"), ("checkpoint", "adapter")),
    Target("adapter/kohya.safetensors",
           (f"{SAMPLE} --model checkpoint --adapter adapter/kohya.safetensors", "inspect adapter/kohya.safetensors",
            "convert adapter/kohya.safetensors out/a.safetensors --names diffusers --model checkpoint"),
           ("checkpoint", "adapter")),
    Target("state/state.safetensors",
           ("sample --resume state/state.safetensors --model checkpoint --device cpu -o out/v.mp4",
            "inspect state/state.safetensors", "show state/state.safetensors", "show state/state.safetensors --json",
            "decode state/state.safetensors --model checkpoint --device cpu -o out/v.mp4"),
           ("checkpoint", "state"), ("state",)),
    Target("state/latents.safetensors", (f"{DECODE} --model checkpoint", "inspect state/latents.safetensors"),
           ("checkpoint", "state")),
    _data("dataset/empty.safetensors"),
    _official(f"official/{RELEASE}/transformers/mp_rank_00_model_states.pt",
              "convert official out/c --layout diffusers",
              f"inspect official/{RELEASE}/transformers/mp_rank_00_model_states.pt"),
    _official(f"official/{RELEASE}/vae/pytorch_model.pt", f"{DECODE} --model official",
              f"convert official/{RELEASE}/vae out/vae --layout diffusers"),
    Target("recipes/encoded.yaml",
           (f"train recipes/encoded.yaml {TRAIN}", f"train recipes/encoded.yaml {TRAIN} --dry-run",
            "inspect recipes/encoded.yaml", f"distill recipes/encoded.yaml {TRAIN}"),
           ("checkpoint", "recipes", "dataset")),
    *(_checkpoint(f"checkpoint/{name}", f"{DECODE} --model checkpoint") for name in (
        "transformer/config.json", "vae/config.json", "text_encoder/config.json", "text_encoder_2/config.json",
        "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "tokenizer_2/tokenizer.json",
        "sampling.json", "model_index.json")),
    _checkpoint("checkpoint/sampling.json", "eval --model checkpoint --prompts 2 -o out/e.json",
                "sample --words --model checkpoint"),
    _official(f"official/{RELEASE}/transformers/config.json", "convert official out/c --layout diffusers"),
    _official(f"official/{RELEASE}/vae/config.json", "convert official out/c --layout diffusers"),
    *(_data(f"dataset/{name}") for name in ("dataset.json", "sources.json", "5x32x32/00000.json")),
    *(_run(f"run/{name}") for name in (
        "checkpoints/step_0000002/run.json", "checkpoints/step_0000002/files.json", "resolved.json", "log.jsonl")),
    Target("videos/manifest.jsonl", (f"encode videos/manifest.jsonl {ENCODE}", "inspect videos/manifest.jsonl"),
           ("checkpoint", "videos")),
    *(_media(name) for name in ("clip.mp4", "picture.png", "picture.webp", "clip.webp", "clip.gif", "clip.apng")),
    _data("dataset/5x32x32/00000.tar", "inspect dataset/5x32x32/00000.tar"),
)  # fmt: skip


def by_format() -> dict[str, list[Target]]:
    """Targets by the ending of the file, so that a format with many files has no more cases than one with a single."""
    formats: dict[str, list[Target]] = {}
    for target in TARGETS:
        formats.setdefault(Path(target.path).suffix, []).append(target)
    return formats
