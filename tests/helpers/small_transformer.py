"""A transformer of a few thousand weights on random latents, as a task: what the tests of the loop train."""

from __future__ import annotations

import random

import numpy as np
import torch

from hunyuan_video.flow import FlowObjective
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig

CONFIG = TransformerConfig(
    hidden_size=32, num_heads=2, double_blocks=1, single_blocks=2, in_channels=4, out_channels=4, rope_dims=(4, 6, 6),
    text_dim=8, pooled_text_dim=6, guidance_embed=False, refiner_depth=1,
)  # fmt: skip


class SmallTask:
    """Draws from every generator there is, so that a resumed run must have them all right."""

    def __init__(self, samples: int, shape=(4, 3, 2, 6), poison=(), noisy=True, config=CONFIG):
        torch.manual_seed(1)
        self.network = HunyuanVideoTransformer(config)
        with torch.no_grad():
            for parameter in self.network.parameters():  # modulations and the last projection start at zero
                parameter.add_(0.05 * torch.randn(parameter.shape))
        self.samples, self.shape, self.poison, self.noisy = samples, shape, set(poison), noisy
        self.objective = FlowObjective()
        self.losses = []

    def loss(self, step, generator):
        data = torch.randn(self.samples, *self.shape, generator=generator)
        batch = self.objective.draw(data, generator)
        mask = torch.arange(5) < torch.randint(1, 6, (self.samples, 1), generator=generator)
        velocity = self.network(
            batch.latents,
            batch.timesteps,
            text=torch.randn(self.samples, 5, 8, generator=generator),
            text_mask=mask,
            pooled_text=torch.randn(self.samples, 6, generator=generator),
        )
        loss = self.objective.loss(velocity, batch)
        if self.noisy:
            loss = loss * (1 + 0.1 * torch.rand(()) + 0.1 * random.random() + 0.1 * np.random.rand())  # noqa: NPY002
        return loss * (float("nan") if step in self.poison else 1.0), {}

    def evaluate(self, step, folder):
        return {"sum": sum(p.sum().item() for p in self.network.parameters())}

    def export(self, folder):
        self.network.save_pretrained(folder)
