"""Sections that runs of several kinds have: optimizer, ranks, loop, world, adapter."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.errors import UserError
from hunyuan_video.rules import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, SHARE, Choice, limited

VALIDATION_SEED = 20_412_603  # noise and timesteps of every validation loss: losses of two runs can be compared


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and a linear decay to zero over the last `decay` fraction of the run."""

    lr: float = limited(1e-3, NOT_NEGATIVE)
    betas: tuple[float, float] = limited((0.9, 0.98), SHARE)
    weight_decay: float = limited(0.0, NOT_NEGATIVE)
    warmup_steps: int = limited(100, NOT_NEGATIVE)
    decay: float = limited(0.5, SHARE)  # fraction of the run, 0..1
    clip: float = limited(1.0, ABOVE_ZERO)  # global gradient norm
    ema: float = limited(0.999, SHARE)  # decay of the exponential moving average of the weights
    # > 0: Muon at this rate for matrices and convolutions in blocks, AdamW for the rest
    muon_lr: float = limited(0.0, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        if max(self.betas) == 1:
            raise UserError(f"betas must be below 1, got {list(self.betas)}")


@dataclass(frozen=True)
class LoopConfig:
    """Settings of every training run."""

    steps: int = limited(1000, AT_LEAST_ONE)
    # > 0: of training, after which it ends if `steps` have not; the decay follows it
    max_seconds: float = limited(0.0, NOT_NEGATIVE)
    batch: int = limited(16, AT_LEAST_ONE)  # samples in a step, over all ranks
    # parts of a step's batch, dealt out to the ranks; 0: one for each rank
    micro_batches: int = limited(0, NOT_NEGATIVE)
    seed: int = 0
    precision: str = limited("bf16", Choice(("bf16", "fp32")))  # "bf16": autocast, float32 weights; "fp32"
    device: str = limited("cpu", Choice(("cpu", "cuda")))  # "cpu" | "cuda"
    threads: int = limited(1, AT_LEAST_ONE)
    log_every: int = limited(20, AT_LEAST_ONE)
    save_every: int = limited(200, AT_LEAST_ONE)
    keep: int = limited(2, AT_LEAST_ONE)  # checkpoints kept
    # steps without an update, for NaN or infinity, after which the run stops
    max_skipped: int = limited(50, NOT_NEGATIVE)
    sheet_every: int = limited(500, NOT_NEGATIVE)  # contact sheet and metrics; 0: only at the end
    cuda_graphs: bool = False  # record the network's passes and replay them: small networks of one shape on a GPU
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

    rank: int = limited(0, NOT_NEGATIVE)  # 0: no adapter, all weights are trained
    alpha: float = limited(0.0, NOT_NEGATIVE)  # the adapter's product is scaled by alpha / rank; 0: alpha = rank
    targets: tuple[str, ...] = ()  # regular expressions for whole paths of linears; default attention and MLP
