"""Sections that runs of several kinds have: optimizer, ranks, loop, world, adapter."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunyuan_video.data.toyworld import WORLDS
from hunyuan_video.errors import UserError

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
class ParallelConfig:
    """How a run is spread over the ranks of torchrun, and what it gives up to fit (training/distributed.py)."""

    fsdp: bool = False  # shard weights, gradients, optimizer and average over all ranks; else every rank has them all
    sequence: int = 1  # ranks that share one sample's tokens (Ulysses); divides the number of ranks
    recompute: str = "none"  # in the backward pass: "none" | "blocks" (all) | "selective" (not products and attention)
    recompute_every: int = 1  # only in every k-th block
    offload_activations: bool = False  # what the backward pass needs waits in host memory
    offload_optimizer: bool = False  # weights, gradients and optimizer live in host memory; needs fsdp


@dataclass(frozen=True)
class LoopConfig:
    """What every training run has."""

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
class WorldConfig:
    """The clips of a run: a toyworld by name, pixels and frames, and how many training clips are kept ready on disk."""

    name: str = "narrow"
    size: int = 64
    num_frames: int = 17
    clips: int = 4000
    seed: int = 1
    held_out_seed: int = 4242

    def __post_init__(self) -> None:
        if self.name not in WORLDS:
            raise UserError(f"name must be one of {', '.join(WORLDS)}, got {self.name!r}")
        if self.num_frames % 4 != 1 or self.size < 16 or self.size % 16:
            raise UserError(
                f"num_frames must be 4k + 1 and size a multiple of 16, got {self.num_frames} and {self.size}"
            )


@dataclass(frozen=True)
class LoRAConfig:
    """Train a low-rank adapter on frozen weights (arXiv 2106.09685) in the place of all weights."""

    rank: int = 0  # 0: no adapter, all weights are trained
    alpha: float = 0.0  # the adapter's product is scaled by alpha / rank; 0: alpha = rank
    targets: tuple[str, ...] = ()  # regular expressions for whole paths of linears; default attention and MLP
