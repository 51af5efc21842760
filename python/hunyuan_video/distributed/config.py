"""The configuration section that spreads a run over ranks."""

from __future__ import annotations

from dataclasses import dataclass

from hunyuan_video.rules import AT_LEAST_ONE, Choice, limited


@dataclass(frozen=True)
class ParallelConfig:
    """Spread of a run over the ranks of torchrun, and what it gives up to fit (distributed/ranks.py)."""

    fsdp: bool = False  # shard weights, gradients, optimizer and average over all ranks; else every rank has them all
    sequence: int = 1  # ranks that share one sample's tokens (Ulysses); divides the number of ranks
    # in the backward pass: "none" | "blocks" (all) | "selective" (not products and attention)
    recompute: str = limited("none", Choice(("none", "blocks", "selective")))
    recompute_every: int = limited(1, AT_LEAST_ONE)  # only in every k-th block
    offload_activations: bool = False  # what the backward pass needs waits in host memory
    offload_optimizer: bool = False  # weights, gradients and optimizer live in host memory; needs fsdp
