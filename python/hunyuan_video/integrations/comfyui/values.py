"""Values along the wires of a graph: our model, ComfyUI's CONDITIONING, LATENT and VAE, to and from our own types.

ComfyUI runs nodes in inference mode; what is made there can neither be changed in place nor trained elsewhere, so nodes
work outside of it (`ordinary`) on copies of such tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.errors import ArgumentError
from hunyuan_video.models.grid import Grid
from hunyuan_video.sampling import HunyuanVideoPipeline, PromptEmbeds
from hunyuan_video.sampling.decode import decode_latents

Conditioning = list[list[Any]]  # [[states [B, S, C], {"pooled_output": [B, P], "attention_mask": [B, S]}]]
Latent = dict[str, Any]  # {"samples": [B, C, T, h, w] float32, in the VAE's units}

PREFIX = "graph_"  # of the names of a graph's adapters


@contextmanager
def ordinary() -> Iterator[None]:
    """Outside of inference mode, without gradients."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def own(tensor: Tensor) -> Tensor:
    """A tensor that is none of inference mode, on the CPU in float32 where it is floating."""
    ordinary_tensor = tensor.clone() if tensor.is_inference() else tensor
    return ordinary_tensor.float().cpu() if ordinary_tensor.is_floating_point() else ordinary_tensor.cpu()


@dataclass(frozen=True)
class GraphModel:
    """A loaded pipeline and the LoRA files that this branch of a graph wants: (path, strength), in order.

    The pipeline is shared by all branches; its adapters are those of the branch that samples.
    """

    pipe: HunyuanVideoPipeline
    loras: tuple[tuple[str, float], ...] = ()

    def with_lora(self, path: str, strength: float) -> GraphModel:
        return replace(self, loras=(*self.loras, (path, strength)))

    def ready(self) -> HunyuanVideoPipeline:
        """The pipeline with just this branch's adapters on, and the checkpoint's own."""
        strengths: dict[str, float] = {}
        loaded = self.pipe.get_list_adapters().get("transformer", [])
        own_ones = {name: w for name, w in self.pipe.get_active_adapters().items() if not name.startswith(PREFIX)}
        for path, strength in self.loras:
            name = adapter_name(path)
            if name not in loaded and name not in strengths:
                self.pipe.load_lora_weights(path, adapter_name=name)
            strengths[name] = strengths.get(name, 0.0) + strength
        if strengths or any(name.startswith(PREFIX) for name in loaded):
            wanted = {**own_ones, **strengths}
            self.pipe.set_adapters(list(wanted), list(wanted.values()))
        return self.pipe


def adapter_name(path: str) -> str:
    """Name of a file's adapter, another one when the file has changed."""
    stat = Path(path).stat()
    text = f"{Path(path).resolve()} {stat.st_size} {stat.st_mtime_ns}"
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:16]


def conditioning_of(embeds: PromptEmbeds) -> Conditioning:
    return [[embeds.text.cpu(), {"pooled_output": embeds.pooled.cpu(), "attention_mask": embeds.mask.cpu()}]]


def embeds_of(conditioning: Conditioning, name: str, batch: int) -> PromptEmbeds:
    """The conditioning of a batch; ArgumentError for combined and timed ones, which mean something else."""
    if len(conditioning) != 1:
        raise ArgumentError(
            f"{name} has {len(conditioning)} conditionings; combined ones cannot be sampled here, give one"
        )
    states, extra = conditioning[0]
    unknown = sorted(set(extra) - {"pooled_output", "attention_mask", "guidance"})
    if unknown:
        raise ArgumentError(
            f"{name} has {unknown[0]!r}, which this sampler cannot honor; use the text encoder's output"
        )
    if extra.get("pooled_output") is None:
        raise ArgumentError(
            f"{name} has no pooled_output; use the node Hunyuan Video Text Encode, or ComfyUI's own one"
        )
    states, pooled = own(states), own(extra["pooled_output"])
    mask = extra.get("attention_mask")
    mask = torch.ones(states.shape[:2], dtype=torch.int64) if mask is None else own(mask)
    if len(states) not in (1, batch):
        raise ArgumentError(
            f"{name} is for {len(states)} videos and latent for {batch}; give one prompt, or one a video"
        )
    return PromptEmbeds(states, mask, pooled)


def empty_size(latent: Latent, grid: Grid) -> dict[str, Any]:
    """Arguments of the video that an empty LATENT stands for. ArgumentError for one that is not empty, or of images."""
    samples = latent["samples"]
    if samples.ndim != 5 or samples.shape[1] != grid.latent_channels:
        raise ArgumentError(
            f"latent must be [videos, {grid.latent_channels}, frames, rows, columns], got {list(samples.shape)}; use "
            "the node EmptyHunyuanLatentVideo"
        )
    if latent.get("noise_mask") is not None:
        raise ArgumentError("latent has a noise mask; this sampler changes all of a video")
    if bool(samples.any()):
        raise ArgumentError("latent is not empty; this sampler starts from noise alone: use EmptyHunyuanLatentVideo")
    batch, _, frames, rows, columns = samples.shape
    return {
        "num_frames": (frames - 1) * grid.temporal + 1, "height": rows * grid.spatial, "width": columns * grid.spatial,
        "num_videos_per_prompt": batch,
    }  # fmt: skip


class GraphVAE:
    """Our VAE as ComfyUI's own nodes call one (VAEDecode, VAEDecodeTiled, VAEEncode)."""

    def __init__(self, pipe: HunyuanVideoPipeline):
        self.pipe = pipe

    def decode(self, samples: Tensor, mode: str = "auto", budget: int | None = None) -> Tensor:
        """[B, C, T, h, w] in the VAE's units -> [B, F, H, W, 3] float32 in 0..1."""
        vae = self.pipe.vae
        if vae is None:
            raise ArgumentError("this checkpoint was loaded without its vae")
        with ordinary():
            video = decode_latents(vae, own(samples) * vae.config.scaling_factor, mode, budget)
            return video.permute(0, 2, 3, 4, 1).contiguous()

    def decode_tiled(self, samples: Tensor, **tiles: Any) -> Tensor:
        """As `decode`: exact decoding keeps to its memory without tiles, so sizes of tiles are not read."""
        return self.decode(samples, "exact")

    def encode(self, pixels: Tensor) -> Tensor:
        """[F, H, W, 3] in 0..1 -> [1, C, T, h, w] in the VAE's units."""
        vae, grid = self.pipe.vae, self.pipe.grid
        if vae is None:
            raise ArgumentError("this checkpoint was loaded without its vae")
        with ordinary():
            video = own(pixels)[..., :3]
            kept = len(video) - (len(video) - 1) % grid.temporal
            height, width = (size - size % grid.spatial for size in video.shape[1:3])
            video = video[:kept, :height, :width].permute(3, 0, 1, 2)[None] * 2 - 1
            weight = next(vae.parameters())
            return vae.encode(video.to(weight.device, weight.dtype), mode="exact").mode().float().cpu()

    def temporal_compression_decode(self) -> int:
        return self.pipe.grid.temporal

    def spacial_compression_decode(self) -> int:  # ComfyUI's spelling
        return self.pipe.grid.spatial
