"""Runs without the training loop, or made of other runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunyuan_video.rules import ABOVE_ZERO, AT_LEAST_ONE, Choice, limited
from hunyuan_video.training.config.building import path


@dataclass(frozen=True)
class TextRun:
    """Make tokenizers, the tiny Llama-type language model and the tiny CLIP text encoder (training/text)."""

    kind: str = "text"
    output: str = path("runs/tiny/text")
    world: str = "full"
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class EncodeRun:
    """Encode clips of several sizes ahead of training, as `hunyuan-video encode` does; run again, it goes on."""

    kind: str = "encode"
    output: str = path("data/encoded")
    source: str = path("toyworld:narrow")  # or a folder of captioned videos, or a .jsonl manifest
    checkpoint: str = path("tiny")  # whose VAE and text encoders are used
    buckets: tuple[str, ...] = ()  # frames x height x width, such as 17x64x96
    clips: int = limited(512, AT_LEAST_ONE)
    captions: int = limited(4, AT_LEAST_ONE)  # sentences for each toyworld clip
    fps: float = limited(24.0, ABOVE_ZERO)  # frames per second taken from a video
    seed: int = 1  # of the toyworld
    batch: int = limited(8, AT_LEAST_ONE)  # clips encoded at once
    workers: int = limited(1, AT_LEAST_ONE)  # processes
    device: str = "cpu"


@dataclass(frozen=True)
class BundleRun:
    """Put trained parts together as a diffusers-layout checkpoint folder with its sampling defaults."""

    kind: str = "bundle"
    output: str = path("runs/tiny/bundle")
    vae: str = path("runs/tiny/vae/export")
    text: str = path("runs/tiny/text")
    transformer: str = path("runs/tiny/flow/export")
    adapters: dict = field(default_factory=dict, metadata={"path": True})  # name -> adapter file of the transformer
    dtype: str = limited("bf16", Choice(("bf16", "fp32")))
    sampling: dict = field(default_factory=dict)
    limit_mb: float = limited(16.0, ABOVE_ZERO)


@dataclass(frozen=True)
class SequenceRun:
    """Several configurations, one after the other; finished ones are skipped on resume.

    `runs` are file names, relative to this file. An entry that is a list runs its parts side by side; a part that is a
    list runs its files in order.
    """

    kind: str = "sequence"
    runs: tuple[object, ...] = field(default=(), metadata={"path": True})  # see training/run_list.py
