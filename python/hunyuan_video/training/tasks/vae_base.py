"""Common part of every training of the causal VAE: network, reconstructions of held-out clips, export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from hunyuan_video.errors import Print
from hunyuan_video.evaluation.prompt_following import psnr
from hunyuan_video.media.pixels import to_frames, to_unit
from hunyuan_video.media.sheets import contact_sheet, moments
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.config import VAERun, VAEStagesRun

Run = TypeVar("Run", VAERun, VAEStagesRun)
SHOWN = 8  # clips of a sheet


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
    def held_out(self) -> Iterable[Tensor]:
        """Clips that are never trained on: uint8 [F, H, W, 3] each, of one size."""

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.config.loop.precision == "bf16")

    def decoded(self, latents: Tensor) -> Tensor:
        """The video of a held-out clip's latents: [1, 3, F, H, W]."""
        return self.network.decode(latents)

    @torch.no_grad()
    def encoded(self, clip: Tensor) -> Tensor:  # uint8 [F, H, W, 3] -> [1, C, T, h, w]
        """Posterior mode."""
        with self.autocast():
            return self.network.encode(to_unit(clip[None].to(self.device))).mode()

    @torch.no_grad()
    def reconstruct(self, clip: Tensor) -> tuple[Tensor, Tensor]:  # uint8 [F, H, W, 3]
        """The clip from its posterior mode, and that: uint8 [1, F, H, W, 3], float32 [1, C, T, h, w]."""
        latents = self.encoded(clip)
        with self.autocast():
            return to_frames(self.decoded(latents)).cpu(), latents.float()

    def measures(self, out: Tensor, truth: Tensor) -> dict[str, Tensor]:  # uint8 [1, F, H, W, 3] each
        """[1] of each measure of one reconstruction."""
        return {"psnr": psnr(out, truth)}

    def judge(self, step: int, folder: Path) -> dict[str, float]:
        """Means of `measures` over held-out clips, worst and best PSNR, deviation of the latents; and a sheet.

        Clip by clip, with of each only what the sheet shows kept: many held-out clips take no more memory than few.
        """
        rows: list[Tensor] = []
        values: dict[str, list[Tensor]] = {}
        latents = []
        for clip in self.held_out():
            out, code = self.reconstruct(clip)
            latents.append(code)
            for name, value in self.measures(out, clip[None]).items():
                values.setdefault(name, []).append(value)
            if len(rows) < 2 * SHOWN:
                rows += [moments(clip), moments(out[0])]
        contact_sheet(folder / "sheets" / f"step_{step:06d}.png", rows)
        ratios = torch.cat(values["psnr"])
        numbers = {name: torch.cat(some).mean().item() for name, some in values.items()}
        extremes = {"worst": ratios.min().item(), "best": ratios.max().item()}
        return {**numbers, **extremes, "latent_std": torch.cat(latents).std().item()}

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        return self.judge(step, folder)

    def export(self, folder: Path) -> None:
        """Writes the VAE with the scaling factor that gives held-out latents unit deviation."""
        deviation = torch.cat([self.encoded(clip).float() for clip in self.held_out()]).std().item()
        self.network.config = replace(self.network.config, scaling_factor=1.0 / deviation)
        self.network.save_pretrained(folder)
