"""Runs that train the causal VAE."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import UserError
from hunyuan_video.models.grid import Grid
from hunyuan_video.models.vae.config import VAEConfig
from hunyuan_video.rules import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, SHARE, Choice, limited
from hunyuan_video.training.config.building import check_model, path
from hunyuan_video.training.config.common import LoopConfig, OptimizerConfig


@dataclass(frozen=True)
class VAERun:
    """Train the causal VAE (paper section 4.1), bootstrapped from closed-form PCA latents (tasks/pca.py)."""

    kind: str = "vae"
    output: str = path("runs/tiny/vae")
    model: dict = field(default_factory=dict)  # VAEConfig fields
    init_from: str = path("")  # an exported VAE to start from
    # "all", or "decoder": the encoder, and so the latent space, stays as it is
    train: str = limited("all", Choice(("all", "decoder")))
    world: WorldConfig = field(default_factory=WorldConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    crop: int = limited(32, AT_LEAST_ONE)  # pixels, of the bootstrap phase
    crop_frames: int = limited(9, AT_LEAST_ONE)
    full_batch: int = limited(4, AT_LEAST_ONE)  # clips per step after the bootstrap
    full_crop: int = 0  # pixels of those; 0: whole clips
    full_frames: int = 0
    # share of the crops that are drawn where the linear code errs most, mostly around what moves; 0: anywhere
    focus: float = limited(0.0, SHARE)
    bootstrap: float = limited(0.6, SHARE)  # fraction of the steps in which the decoder learns from the PCA latents
    pca_clips: int = limited(400, AT_LEAST_ONE)
    whiten: float = limited(0.5, NOT_NEGATIVE)  # 0: PCA coefficients, 1: unit variance each
    latent_noise: float = limited(0.05, NOT_NEGATIVE)
    weight_l1: float = limited(1.0, NOT_NEGATIVE)
    weight_mse: float = limited(0.5, NOT_NEGATIVE)
    weight_gradient: float = limited(0.3, NOT_NEGATIVE)
    weight_kl: float = limited(1e-6, NOT_NEGATIVE)
    weight_latent: float = limited(0.5, NOT_NEGATIVE)  # encoder regression to the PCA latents in the bootstrap
    weight_latent_joint: float = limited(0.02, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        check_model(self.model, VAEConfig)
        if not self.init_from:
            self.check_grid(Grid.of(VAEConfig(**self.model)))
        for pixels, frames in (("crop", "crop_frames"), ("full_crop", "full_frames")):
            self._check_inside(pixels, frames)

    def _check_inside(self, pixels: str, frames: str) -> None:
        size, count, world = getattr(self, pixels), getattr(self, frames), self.world
        if size > world.size or count > world.num_frames:
            raise UserError(
                f"{pixels} {size} and {frames} {count} are larger than the world's clips, "
                f"{world.num_frames} frames of {world.size} pixels"
            )

    def check_grid(self, grid: Grid) -> None:
        """UserError unless clips and crops are whole latents of the VAE."""
        self.world.check(grid)
        self._check_crop("crop", "crop_frames", grid)
        self._check_crop("full_crop", "full_frames", grid, may_be_whole=True)

    def _check_crop(self, pixels: str, frames: str, grid: Grid, may_be_whole: bool = False) -> None:
        size, count = getattr(self, pixels), getattr(self, frames)
        whole_frames = count > 0 and (count - 1) % grid.temporal == 0 or may_be_whole and count == 0
        if size % grid.spatial or size < 0 or not whole_frames:
            rule = f"{pixels} must be a multiple of {grid.spatial} and {frames} {grid.temporal}k + 1"
            raise UserError(f"{rule}, got {size} and {count}")


@dataclass(frozen=True)
class VAEStage:
    """A part of the VAE's curriculum."""

    steps: int = limited(1000, AT_LEAST_ONE)
    frames: int = limited(17, AT_LEAST_ONE)  # one more than a multiple of the VAE's compression
    size: int = 64  # pixels, a multiple of a token's
    batch: int = limited(8, AT_LEAST_ONE)
    tiled: float = limited(0.0, SHARE)  # share of the steps that decode in tiles (of model.tile_size and tile_frames)


@dataclass(frozen=True)
class VAEStagesRun:
    """Train the causal VAE in stages with the paper's losses (section 4.1.1; see tasks/vae_stages.py)."""

    kind: str = "vae_stages"
    output: str = path("runs/vae")
    model: dict = field(default_factory=dict)  # VAEConfig fields
    init_from: str = path("")  # an exported VAE to start from
    data: str = path("toyworld:narrow")  # or a folder of captioned videos, or a .jsonl manifest
    data_seed: int = 1
    fps: float = limited(24.0, ABOVE_ZERO)  # taken from videos
    source_frames: int = limited(65, AT_LEAST_ONE)  # what is read of a clip; strides and stages choose from it
    source_size: int = 64  # pixels
    clips: int = limited(4000, AT_LEAST_ONE)
    held_out: int = limited(16, NOT_NEGATIVE)  # the first clips: never trained on, evaluated
    stages: tuple[VAEStage, ...] = ()
    image_ratio: float = limited(0.2, SHARE)  # share of image batches: video : image = 4 : 1
    max_stride: int = limited(8, AT_LEAST_ONE)  # frames
    perceptual: str = "efficientnet_lite0"  # or "module:factory"
    weight_l1: float = limited(1.0, NOT_NEGATIVE)
    weight_perceptual: float = limited(0.1, NOT_NEGATIVE)
    weight_adversarial: float = limited(0.05, NOT_NEGATIVE)
    weight_kl: float = limited(1e-6, NOT_NEGATIVE)
    adversarial_start: int = limited(1000, NOT_NEGATIVE)  # step; the paper gives none
    discriminator_width: int = limited(32, AT_LEAST_ONE)
    discriminator_layers: int = limited(3, AT_LEAST_ONE)
    discriminator: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=2e-4, betas=(0.5, 0.9)))
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        check_model(self.model, VAEConfig)
        if not self.stages:
            raise UserError("stages: give at least one stage with steps, frames, size and batch")
        total = sum(stage.steps for stage in self.stages)
        if total != self.loop.steps:
            raise UserError(f"loop.steps is {self.loop.steps}, the stages have {total} steps; make them equal")
        if not self.init_from:
            self.check_grid(Grid.of(VAEConfig(**self.model)))
        parts = max(self.loop.micro_batches, 1)
        for number, stage in enumerate(self.stages):
            if stage.batch % parts:
                raise UserError(
                    f"stages[{number}]: batch = {stage.batch} must be a multiple of the {parts} micro-batches"
                )
        if self.held_out < 1:
            raise UserError(f"held_out must be at least 1: the clips that are evaluated; got {self.held_out}")
        if self.discriminator_width > 2 and self.discriminator_width % 4:
            raise UserError(f"discriminator_width must be 1, 2 or a multiple of 4, got {self.discriminator_width}")

    def check_grid(self, grid: Grid) -> None:
        """UserError unless clips and stages are whole latents of the VAE, and stages fit into the clips."""
        whole = Bucket.parse(f"{self.source_frames}x{self.source_size}x{self.source_size}", grid)
        for number, stage in enumerate(self.stages):
            if stage.frames > whole.frames or not grid.multiple <= stage.size <= whole.height:
                raise UserError(
                    f"stages[{number}]: {stage.frames} frames of {stage.size} pixels do not fit into {whole}"
                )
            if not grid.fits(stage.frames, stage.size, stage.size):
                raise UserError(f"stages[{number}]: {grid.rule}")
