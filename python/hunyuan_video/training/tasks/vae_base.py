"""Common part of every training of the causal VAE: network, reconstructions of held-out clips, export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from hunyuan_video.errors import Print
from hunyuan_video.evaluation.prompt_following import psnr
from hunyuan_video.media.pixels import to_frames, to_unit
from hunyuan_video.media.sheets import contact_sheet
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.config import VAERun, VAEStagesRun

Run = TypeVar("Run", VAERun, VAEStagesRun)


class BaseVAETask(ABC, Generic[Run]):
    """A VAE run as a task of `training.loop.train`, without its data and loss."""

    def __init__(self, config: Run, folder: Path, report: Print = print):
        self.config: Run = config
        self.device = config.loop.device
        torch.manual_seed(config.loop.seed)
        if config.init_from:
            self.network = CausalVAE.from_pretrained(config.init_from, dtype=torch.float32)
        else:
            self.network = CausalVAE(VAEConfig(**config.model))
        self.grid = Grid.of(self.network.config)
        config.check_grid(self.grid)
        self.open(folder, report)

    @abstractmethod
    def open(self, folder: Path, report: Print) -> None:
        """Opens the data, and makes what else the loss needs. Raises UserError."""

    @abstractmethod
    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """As in `training.task.Task`."""

    @abstractmethod
    def held_out(self) -> Tensor:
        """Clips that are never trained on: uint8 [N, F, H, W, 3]."""

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.config.loop.precision == "bf16")

    def decoded(self, latents: Tensor) -> Tensor:
        """The video of a held-out clip's latents: [1, 3, F, H, W]."""
        return self.network.decode(latents)

    @torch.no_grad()
    def reconstruct(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 clips -> (uint8 reconstructions from the posterior mode, latents)."""
        outs, codes = [], []
        for part in frames.split(1):  # several would need more than a step's training
            with self.autocast():
                latents = self.network.encode(to_unit(part.to(self.device))).mode()
                outs.append(to_frames(self.decoded(latents)).cpu())
            codes.append(latents.float())
        return torch.cat(outs), torch.cat(codes)

    @torch.no_grad()
    def codes(self, frames: Tensor) -> Tensor:  # uint8 [N, F, H, W, 3] -> [N, C, T, h, w]
        """Posterior modes."""
        with self.autocast():
            parts = frames.to(self.device).split(1)
            return torch.cat([self.network.encode(to_unit(part)).mode().float() for part in parts])

    def judge(self, step: int, folder: Path) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Held-out clips and their reconstructions, on a sheet, too; PSNR and deviation of the latents."""
        truth = self.held_out()
        out, latents = self.reconstruct(truth)
        ratio = psnr(out, truth)
        rows = [clip for pair in zip(truth[:8], out[:8], strict=True) for clip in pair]
        contact_sheet(folder / "sheets" / f"step_{step:06d}.png", rows)
        numbers = {"psnr": ratio.mean().item(), "worst": ratio.min().item(), "best": ratio.max().item()}
        return truth, out, {**numbers, "latent_std": latents.std().item()}

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        return self.judge(step, folder)[2]

    def export(self, folder: Path) -> None:
        """Writes the VAE with the scaling factor that gives held-out latents unit deviation."""
        deviation = self.codes(self.held_out()).std().item()
        self.network.config = replace(self.network.config, scaling_factor=1.0 / deviation)
        self.network.save_pretrained(folder)
