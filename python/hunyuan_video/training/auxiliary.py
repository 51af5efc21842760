"""Further networks that a task trains inside its loss: a fake score, a discriminator."""

from __future__ import annotations

import math

from torch import Tensor, nn

from hunyuan_video.distributed.ranks import Ranks
from hunyuan_video.errors import UserError
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.pace import Pace
from hunyuan_video.training.parallelize import Prepared


class AuxiliaryNetwork:
    """A network with its own optimizer. A task lists such networks by name in `auxiliary`; the loop shards them, and
    saves and loads them with the rest; the task calls `network` and, with a loss of its own, `update`.
    """

    def __init__(self, network: nn.Module, config: OptimizerConfig):
        self.network, self.config = network, config
        self.skipped = 0
        self.prepared: Prepared | None = None

    def prepare(self, loop: LoopConfig, ranks: Ranks, pace: Pace | None = None) -> Prepared:
        """Called by the loop, before the first loss."""
        self.prepared = Prepared(self.network, loop, self.config, ranks, pace)
        return self.prepared

    def update(self, loss: Tensor, step: int) -> float:
        """Backward pass and one optimizer step; returns the gradient's norm. Every rank must call it in each loss.

        Gradients that `loss` leaves in other networks stay: detach what must not learn. A gradient that is not finite
        changes nothing and is counted in `skipped`.
        """
        if self.prepared is None:
            raise UserError("an AuxiliaryNetwork must be listed in the task's `auxiliary` before the loop starts")
        loss.backward()
        norm = self.prepared.update(step)
        self.skipped += not math.isfinite(norm)
        return norm
