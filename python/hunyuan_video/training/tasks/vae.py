"""Training the causal VAE: reconstruction from crops of captionless clips, bootstrapped from PCA latents.

Loss: L1 + MSE + gradient L1 + KL (weights in VAERun). In the bootstrap the encoder regresses the closed-form PCA
latents while the decoder learns to invert them; afterwards both train jointly on whole clips and the target only leans
lightly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.data.cache import clip_cache
from hunyuan_video.data.world import held_out
from hunyuan_video.errors import Print
from hunyuan_video.evaluation.prompt_following import psnr
from hunyuan_video.media.pixels import to_frames, to_unit
from hunyuan_video.models import CausalVAE
from hunyuan_video.models.vae.model import gaussian_kl
from hunyuan_video.training.config import VAERun
from hunyuan_video.training.generators import generator_on
from hunyuan_video.training.recorded import Recorded
from hunyuan_video.training.tasks.crops import random_crops
from hunyuan_video.training.tasks.pca import PCALatents
from hunyuan_video.training.tasks.vae_base import BaseVAETask


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:  # [B, 3, F, H, W] each
    """Mean absolute difference of the first differences along rows, columns and frames: keeps edges sharp."""
    parts = ((a.diff(dim=d) - b.diff(dim=d)).abs().mean() for d in (2, 3, 4) if a.shape[d] > 1)
    return sum(parts, a.new_zeros(()))


def noise_like(latents: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Normal noise again and again; on a GPU drawn there, from a generator that `generator` seeds."""
    generator = generator_on(latents.device, generator)
    while True:
        yield torch.randn(latents.shape, generator=generator, device=latents.device, dtype=torch.float32)


class Passes(nn.Module):
    """Encoder and decoder in one. given: the decoder is given latents; else it decodes samples of the posterior."""

    def __init__(self, vae: CausalVAE, given: bool):
        super().__init__()
        self.vae, self.given = vae, given

    def forward(
        self,
        video: Tensor,  # [B, 3, F, H, W]
        first: Tensor,  # [B, C, T, h, w] the given latents, or normal noise of the sample
        second: Tensor,  # [B, C, T, h, w] added to the latents
    ) -> tuple[Tensor, Tensor, Tensor]:  # mean, log variance [B, C, T, h, w]; video [B, 3, F, H, W]; float32
        posterior = self.vae.encode(video)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        latents = first if self.given else mean + (0.5 * logvar).exp() * first
        return mean, logvar, self.vae.decode(latents + second).float()


class VAETask(BaseVAETask[VAERun]):
    """Crops of a world's clips, bootstrapped from PCA latents."""

    def open(self, folder: Path, report: Print) -> None:
        config = self.config
        self.passes = [Recorded(Passes(self.network, given), config.loop.cuda_graphs) for given in (False, True)]
        self.clips = clip_cache(config.world, folder.parent / "clips", report).to(self.device)
        self.pca = PCALatents.fit(to_unit(self.clips[: config.pca_clips]), self.grid, config.whiten)
        if not config.init_from:
            self.initialize()
        if config.train == "decoder":
            self.network.encoder.requires_grad_(False)
            self.network.quant_conv.requires_grad_(False)
        self.truth, _ = held_out(config.world, 32)
        linear = psnr(self.linear(self.truth), self.truth).mean().item()
        report(f"linear (PCA) reconstruction of held-out clips: {linear:.2f} dB")

    def linear(self, frames: Tensor) -> Tensor:  # uint8 [N, F, H, W, 3] -> the same
        """Clips as the PCA latents keep them."""
        return to_frames(self.pca.decode(self.pca.encode(to_unit(frames.to(self.device))))).cpu()

    def initialize(self) -> None:
        """Residual branches start at zero and the posterior narrow, so the network starts as a plain pyramid."""
        channels = self.network.config.latent_channels
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                if name.endswith(("conv2.conv.weight", "conv2.conv.bias", "to_out.0.weight", "to_out.0.bias")):
                    parameter.zero_()
            self.network.quant_conv.weight[channels:] = 0
            self.network.quant_conv.bias[channels:] = -6.0

    def batch(self, generator: torch.Generator, count: int, crop: int, frames: int) -> tuple[Tensor, Tensor]:
        """Random crops on the VAE's grid, and the PCA latents of just those pixels."""
        video = random_crops(self.clips, self.pca, (frames, crop), count, self.config.focus, generator)
        return video, self.pca.encode(video)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        config = self.config
        bootstrap = step < config.bootstrap * config.loop.steps
        if bootstrap:
            video, target = self.batch(generator, config.loop.micro_batch, config.crop, config.crop_frames)
        else:
            count = max(config.full_batch // max(config.loop.micro_batches, 1), 1)
            pixels, frames = config.full_crop or config.world.size, config.full_frames or config.world.num_frames
            video, target = self.batch(generator, count, pixels, frames)
        noise = noise_like(target, generator)
        first = target if bootstrap else next(noise)
        mean, logvar, out = self.passes[bootstrap](video, first, config.latent_noise * next(noise))
        latent = F.mse_loss(mean, target)
        l1, mse, edges = F.l1_loss(out, video), F.mse_loss(out, video), gradient_l1(out, video)
        kl = gaussian_kl(mean, logvar).sum() / video.numel()  # per pixel, as the other terms
        weight = config.weight_latent if bootstrap else config.weight_latent_joint
        loss = (config.weight_l1 * l1 + config.weight_mse * mse + config.weight_gradient * edges
                + config.weight_kl * kl + weight * latent)  # fmt: skip
        numbers = torch.stack((l1, mse, latent, kl)).tolist()  # together: each reading would wait for the device
        return loss, {**dict(zip(("l1", "mse", "latent", "kl"), numbers, strict=True)), "samples": float(len(video))}

    def held_out(self) -> Iterable[Tensor]:
        return self.truth

    def export(self, folder: Path) -> None:
        if self.config.train == "all":
            super().export(folder)
        else:  # the latent space stays as it is
            self.network.save_pretrained(folder)
