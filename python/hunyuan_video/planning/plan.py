"""Memory of a training run on a machine, from counts alone: weights, optimizer, activations."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.errors import UserError
from hunyuan_video.planning.cost import Cost
from hunyuan_video.planning.gpus import CARDS

GPUS = {name: (card.bf16, card.memory) for name, card in CARDS.items()}  # TFLOP/s, 10^9 bytes


@dataclass(frozen=True)
class Machine:
    """The GPUs that a plan is made for. mfu: share of the peak that training reaches, an assumption."""

    gpu: str = "H100"
    ranks: int = 0  # 0: as many as torchrun started, else 1
    mfu: float = 0.4

    def __post_init__(self) -> None:
        if self.gpu not in GPUS:
            raise UserError(f"--gpu must be one of {', '.join(GPUS)}, got {self.gpu!r}")

    @property
    def count(self) -> int:
        return self.ranks or int(os.environ.get("WORLD_SIZE", "1"))


def activation_bytes(cost: Cost, parallel: ParallelConfig) -> float:
    """On this rank's device: its share of the tokens; offloaded, no more than two blocks at a time."""
    inside: float = cost.activations(parallel.recompute, parallel.recompute_every) - cost.kept_outside
    if parallel.offload_activations:
        inside = min(inside, 2 * max(cost.kept))
    return cost.kept_outside + inside / parallel.sequence


def memory_per_rank(
    sizes: dict[str, int], parallel: ParallelConfig, precision: str, ranks: int, *, muon: bool
) -> dict[str, float]:
    """Bytes of weights, gradients, optimizer, average and gathered blocks on the device, and of all that on the host.

    Weights, gradients and averages are float32; AdamW keeps two numbers a weight, Muon one. With FSDP each rank has its
    share and, in bf16 or float32, two gathered blocks and what is outside blocks; without, autocast's bf16 copies.
    """
    count = float(sum(sizes.values()))
    by_muon = muon * sum(n for name, n in sizes.items() if "block" in name and name.endswith("weight"))
    share = 1 / ranks if parallel.fsdp else 1.0
    working = 2 if precision == "bf16" else 4
    blocks: dict[str, int] = {}
    for name, number in sizes.items():
        block = ".".join(name.split(".")[:2]) if "_blocks." in name else ""
        blocks[block] = blocks.get(block, 0) + number
    gathered = blocks.pop("", 0) + 2 * max(blocks.values(), default=0)
    out = {
        "weights": 4 * count * share,
        "gradients": 4 * count * share,
        "optimizer": (8 * (count - by_muon) + 4 * by_muon) * share,
        "average": 4 * count * share,
        "gathered": working * (gathered if parallel.fsdp else count if working == 2 else 0),
    }
    if parallel.offload_optimizer:
        host = sum(out[name] for name in ("weights", "gradients", "optimizer", "average"))
        return {"gathered": out["gathered"], "host": host}
    return out
