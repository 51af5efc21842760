"""Training the transformer with flow matching on cached latents (paper section 4.4).

x_t = (1 - t) data + t noise, target v = noise - data, t logit-normal; captions in random sentence forms, replaced by
the empty caption with probability `text_dropout` so that classifier-free guidance has an unconditional branch. With
`image_condition` the first latent frame is given, clean and not part of the loss (paper section 7.2).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from hunyuan_video.flow import EulerSolver, FlowObjective, FlowSchedule, integrate, resolution_shift
from hunyuan_video.training.config import FlowRun
from hunyuan_video.training.network import check_frames, export_network, make_network
from hunyuan_video.training.tasks.captioned import CaptionedLatents
from hunyuan_video.training.tasks.fields import guided_field


class FlowTask:
    """The flow-matching run as a task of `training.loop.train`."""

    def __init__(self, config: FlowRun, folder: Path, report=print):
        self.config = config
        images = bool(config.image_condition)
        self.data = CaptionedLatents(config.world, config.vae, config.text, folder, report, images)
        torch.manual_seed(config.loop.seed)
        channels = self.data.shape[0]
        model = {**config.model, "in_channels": channels, "out_channels": channels}
        self.network = make_network(config.init_from, model, config.lora, config.image_condition)
        check_frames(self.network, f"world.num_frames = {config.world.num_frames}", self.data.shape[1])
        self.shift = config.t_shift
        if config.t_shift_tokens:
            tokens = math.prod(self.data.shape[1:]) // self.network.config.patch_volume
            self.shift = resolution_shift(tokens, config.t_shift_tokens, config.t_shift)
        self.objective = FlowObjective(config.t_mean, config.t_std, self.shift, first_frame=images)
        parameters = sum(p.numel() for p in self.network.parameters())
        report(f"{parameters / 1e6:.2f} M parameters, {len(self.data.latents)} clips of latents {self.data.shape}")

    def loss(self, step: int, generator: torch.Generator):
        latents, picks = self.data.pick(self.config.loop.micro_batch, generator)
        batch = self.objective.draw(latents, generator)
        condition = self.data.embed(self.data.captions(picks, generator, self.config.text_dropout))
        velocity = self.network(batch.latents, batch.timesteps, **condition)
        return self.objective.loss(velocity, batch), {}

    @torch.no_grad()
    def sample(
        self,
        prompts: list[str],
        seed: int,
        first: Tensor | None = None,  # [N, C, 1, h, w], in image-to-video
    ) -> Tensor:
        """Euler with classifier-free guidance: latents [N, C, T, h, w]."""
        config = self.config
        velocity = guided_field(self.network, self.data.embed([""] * len(prompts) + prompts), config.cfg_scale)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.loop.precision == "bf16"):
            noise = self.data.noise(len(prompts), seed)
            return integrate(velocity, noise, EulerSolver(FlowSchedule(config.sample_steps, self.shift)), first)

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        return self.data.judge(self.sample, self.config.eval_prompts, folder / "sheets" / f"step_{step:06d}.png")

    def export(self, folder: Path) -> None:
        export_network(self.network, self.config.lora, folder)
