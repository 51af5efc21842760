"""Training the causal VAE as the paper does (section 4.1.1): stages, images among videos, four losses, frame stride.

L = L1 + 0.1 perceptual + 0.05 adversarial + 1e-6 KL. Videos and images in the ratio 4 : 1; stages from low-resolution
short to high-resolution long clips; a random frame stride of 1 to 8; and, as the last stage, tiling randomly on and off
so that tiled decoding leaves no seams. Optimizer, batch and the start of the adversarial loss are not published.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.sources import Clip, open_source
from hunyuan_video.errors import Print, UserError
from hunyuan_video.evaluation.ssim import ssim
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models.vae.model import gaussian_kl
from hunyuan_video.training.auxiliary import AuxiliaryNetwork
from hunyuan_video.training.config import VAEStage, VAEStagesRun
from hunyuan_video.training.tasks.discriminator import PatchDiscriminator, discriminator_loss, generator_loss
from hunyuan_video.training.tasks.perceptual import perceptual_loss
from hunyuan_video.training.tasks.vae_base import BaseVAETask


def stage_at(stages: tuple[VAEStage, ...], step: int) -> VAEStage:
    """The stage of a step; steps beyond the last belong to it."""
    for stage in stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    return stages[-1]


def largest_stride(available: int, frames: int, limit: int) -> int:
    """The largest frame stride with which `frames` frames fit into `available`."""
    return max(1, min(limit, (available - 1) // (frames - 1))) if frames > 1 else 1


def open_clips(config: VAEStagesRun) -> list[Clip]:
    """The clips of a run, the held-out ones first. Raises UserError."""
    whole = Bucket(config.source_frames, config.source_size, config.source_size)
    count = config.clips + config.held_out
    clips = open_source(config.data, [whole], clips=count, captions=1, fps=config.fps, seed=config.data_seed)
    if len(clips) <= config.held_out:
        raise UserError(f"{config.data}: {len(clips)} clips, held_out takes {config.held_out} of them")
    return clips


def first_readable(clips: Iterable[Clip], where: str) -> tuple[Tensor, int]:
    """Pixels of the first clip that can be read, uint8 [F, H, W, 3], and how many before it could not.
    UserError when ten in a row cannot.
    """
    for skipped, clip in enumerate(islice(clips, 10)):
        with contextlib.suppress(OSError, ValueError):
            return clip.pixels(), skipped
    raise UserError(f"{where}: ten clips in a row, or all, cannot be read")


class VAEStagesTask(BaseVAETask[VAEStagesRun]):
    """Stages of growing clips with four losses."""

    def open(self, folder: Path, report: Print) -> None:
        config = self.config
        self.clips = open_clips(config)
        self.truth_clips, self.clips = self.clips[: config.held_out], self.clips[config.held_out :]
        self.make_critics()
        self.unreadable = 0
        self.gaps: list[Tensor] = []  # between plain and tiled decoding, of the last evaluation
        report(f"{sum(p.numel() for p in self.network.parameters()) / 1e6:.2f} M parameters, {len(self.clips)} clips")

    def make_critics(self) -> None:
        """The networks beside the VAE that its losses need."""
        config = self.config
        self.perceptual = perceptual_loss(config.perceptual) if config.weight_perceptual > 0 else None
        self.auxiliary: dict[str, AuxiliaryNetwork] = {}
        if config.weight_adversarial > 0:
            discriminator = PatchDiscriminator(config.discriminator_width, config.discriminator_layers)
            self.auxiliary["discriminator"] = AuxiliaryNetwork(discriminator, config.discriminator)

    def pixels(self, rng: random.Random) -> Tensor:  # uint8 [F, H, W, 3]
        """A random clip; one that cannot be read is passed over and counted."""
        drawn = (self.clips[rng.randrange(len(self.clips))] for _ in range(10))
        pixels, skipped = first_readable(drawn, self.config.data)
        self.unreadable += skipped
        return pixels

    def batch(self, stage: VAEStage, count: int, rng: random.Random) -> Tensor:
        """Videos, or images with probability `image_ratio`: [count, 3, F, size, size] in [-1, 1]."""
        frames = 1 if rng.random() < self.config.image_ratio else stage.frames
        clips = []
        for _ in range(count):
            clip = self.pixels(rng)
            stride = rng.randint(1, largest_stride(len(clip), frames, self.config.max_stride))
            first = rng.randrange(len(clip) - (frames - 1) * stride)
            clips.append(clip[first : first + (frames - 1) * stride + 1 : stride])
        video = to_unit(torch.stack(clips))
        if video.shape[-1] == stage.size:
            return video
        flat = F.interpolate(video.transpose(1, 2).flatten(0, 1), (stage.size, stage.size), mode="area")
        return flat.unflatten(0, (count, frames)).transpose(1, 2).contiguous()

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        config, stage = self.config, stage_at(self.config.stages, step)
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator, device="cpu")))
        video = self.batch(stage, max(stage.batch // max(config.loop.micro_batches, 1), 1), rng)
        posterior = self.network.encode(video)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        latents = mean + (0.5 * logvar).exp() * torch.randn(
            mean.shape, generator=generator, dtype=torch.float32, device="cpu"
        )
        tiled = rng.random() < stage.tiled
        out = self.network.decode(latents, mode="tiled" if tiled else "plain").float()
        l1 = F.l1_loss(out, video)
        kl = gaussian_kl(mean, logvar).sum() / video.numel()  # per pixel, as the other terms
        loss = config.weight_l1 * l1 + config.weight_kl * kl
        parts = {"l1": l1.item(), "kl": kl.item(), "samples": float(len(video))}
        if self.perceptual is not None:
            distance = self.perceptual(*(v.transpose(1, 2).flatten(0, 1) for v in (out, video)))
            loss = loss + config.weight_perceptual * distance
            parts["perceptual"] = distance.item()
        if "discriminator" in self.auxiliary and step >= config.adversarial_start:
            extra, numbers = self.adversarial(video, out, step)
            loss = loss + config.weight_adversarial * extra
            parts.update(numbers)
        return loss, parts

    def adversarial(self, video: Tensor, out: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """One update of the discriminator, then what the VAE has to lower."""
        discriminator = self.auxiliary["discriminator"]
        judge = discriminator.network
        real, fake = judge(torch.cat((video, out.detach()))).chunk(2)
        loss = discriminator_loss(real, fake)
        discriminator.update(loss, step)
        judge.requires_grad_(False)  # the VAE's gradient passes through it and leaves none in it
        extra = generator_loss(judge(out))
        judge.requires_grad_(True)
        return extra, {"discriminator": loss.item(), "real": real.mean().item(), "fake": fake.mean().item()}

    def held_out(self) -> Iterator[Tensor]:
        """All that can be read."""
        readable = 0
        for clip in self.truth_clips:
            try:
                pixels = clip.pixels()
            except (OSError, ValueError):
                continue
            readable += 1
            yield pixels
        if not readable:
            raise UserError(f"{self.config.data}: none of the {len(self.truth_clips)} held-out clips can be read")

    def decoded(self, latents: Tensor) -> Tensor:
        plain = super().decoded(latents).float()
        self.gaps.append((self.network.decode(latents, mode="tiled").float() - plain).square().mean())
        return plain

    def measures(self, out: Tensor, truth: Tensor) -> dict[str, Tensor]:
        return {**super().measures(out, truth), "ssim": ssim(out, truth)}

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """PSNR and SSIM of held-out clips at full size, and what tiled decoding changes."""
        self.gaps.clear()
        numbers = self.judge(step, folder)
        numbers["tiled_rms"] = torch.stack(self.gaps).mean().sqrt().item()
        names = ("psnr", "worst", "ssim", "tiled_rms", "latent_std")
        return {**{name: numbers[name] for name in names}, "unreadable": self.unreadable}
