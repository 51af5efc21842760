"""Sections that runs of several kinds have: optimizer, ranks, loop, world, adapter."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunyuan_video.distributed.config import ParallelConfig

VALIDATION_SEED = 20_412_603  # noise and timesteps of every validation loss: losses of two runs can be compared


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and a linear decay to zero over the last `decay` fraction of the run."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    warmup_steps: int = 100
    decay: float = 0.5  # fraction of the run, 0..1
    clip: float = 1.0  # global gradient norm
    ema: float = 0.999  # decay of the exponential moving average of the weights
    muon_lr: float = 0.0  # > 0: Muon at this rate for matrices and convolutions in blocks, AdamW for the rest


@dataclass(frozen=True)
class LoopConfig:
    """Settings of every training run."""

    steps: int = 1000
    batch: int = 16  # samples in a step, over all ranks
    micro_batches: int = 0  # parts of a step's batch, dealt out to the ranks; 0: one for each rank
    seed: int = 0
    precision: str = "bf16"  # "bf16": autocast, float32 weights; "fp32"
    device: str = "cpu"  # "cpu" | "cuda"
    threads: int = 1
    log_every: int = 20
    save_every: int = 200
    keep: int = 2  # checkpoints kept
    max_skipped: int = 50  # steps without an update, for NaN or infinity, after which the run stops
    sheet_every: int = 500  # contact sheet and metrics; 0: only at the end
    compile: bool = False  # torch.compile the network (needs a C++ compiler on a CPU)
    tensorboard: bool = False  # events in output/tensorboard
    wandb: str = ""  # project to report to
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    @property
    def micro_batch(self) -> int:
        """Samples that a task draws for one loss."""
        return self.batch // max(self.micro_batches, 1)


@dataclass(frozen=True)
class LoRAConfig:
    """Train a low-rank adapter on frozen weights (arXiv 2106.09685) in the place of all weights."""

    rank: int = 0  # 0: no adapter, all weights are trained
    alpha: float = 0.0  # the adapter's product is scaled by alpha / rank; 0: alpha = rank
    targets: tuple[str, ...] = ()  # regular expressions for whole paths of linears; default attention and MLP
