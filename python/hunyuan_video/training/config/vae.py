"""Runs that train the causal VAE."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import UserError
from hunyuan_video.models.grid import Grid
from hunyuan_video.models.vae.config import VAEConfig
from hunyuan_video.training.config.building import check_model, path
from hunyuan_video.training.config.common import LoopConfig, OptimizerConfig


@dataclass(frozen=True)
class VAERun:
    """Train the causal VAE (paper section 4.1), bootstrapped from closed-form PCA latents (tasks/pca.py)."""

    kind: str = "vae"
    output: str = path("runs/tiny/vae")
    model: dict = field(default_factory=dict)  # VAEConfig fields
    init_from: str = path("")  # an exported VAE to start from
    train: str = "all"  # "all", or "decoder": the encoder, and so the latent space, stays as it is
    world: WorldConfig = field(default_factory=WorldConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    crop: int = 32  # pixels, of the bootstrap phase
    crop_frames: int = 9
    full_batch: int = 4  # clips per step after the bootstrap
    full_crop: int = 0  # pixels of those; 0: whole clips
    full_frames: int = 0
    bootstrap: float = 0.6  # fraction of the steps in which the decoder learns from the PCA latents
    pca_clips: int = 400
    whiten: float = 0.5  # 0: PCA coefficients, 1: unit variance each
    latent_noise: float = 0.05
    weight_l1: float = 1.0
    weight_mse: float = 0.5
    weight_gradient: float = 0.3
    weight_kl: float = 1e-6
    weight_latent: float = 0.5  # encoder regression to the PCA latents in the bootstrap
    weight_latent_joint: float = 0.02

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

    steps: int = 1000
    frames: int = 17  # one more than a multiple of the VAE's compression
    size: int = 64  # pixels, a multiple of a token's
    batch: int = 8
    tiled: float = 0.0  # share of the steps that decode in tiles (of model.tile_size and tile_frames)


@dataclass(frozen=True)
class VAEStagesRun:
    """Train the causal VAE in stages with the paper's losses (section 4.1.1; see tasks/vae_stages.py)."""

    kind: str = "vae_stages"
    output: str = path("runs/vae")
    model: dict = field(default_factory=dict)  # VAEConfig fields
    init_from: str = path("")  # an exported VAE to start from
    data: str = path("toyworld:narrow")  # or a folder of captioned videos, or a .jsonl manifest
    data_seed: int = 1
    fps: float = 24.0  # taken from videos
    source_frames: int = 65  # what is read of a clip; strides and stages choose from it
    source_size: int = 64  # pixels
    clips: int = 4000
    held_out: int = 16  # the first clips: never trained on, evaluated
    stages: tuple[VAEStage, ...] = ()
    image_ratio: float = 0.2  # share of image batches: video : image = 4 : 1
    max_stride: int = 8  # frames
    perceptual: str = "efficientnet_lite0"  # or "module:factory"
    weight_l1: float = 1.0
    weight_perceptual: float = 0.1
    weight_adversarial: float = 0.05
    weight_kl: float = 1e-6
    adversarial_start: int = 1000  # step; the paper gives none
    discriminator_width: int = 32
    discriminator_layers: int = 3
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
