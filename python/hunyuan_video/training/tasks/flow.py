"""Training the transformer with flow matching (paper section 4.4), on whatever draws captioned latents.

x_t = (1 - t) data + t noise, target v = noise - data, t logit-normal. With `image_condition` the first latent frame is
given, clean and not part of the loss (paper section 7.2). Three kinds of data: the cached clips of a toyworld
(flow_cached.py), a data set of `hunyuan-video encode` (flow_encoded.py), the buckets of a stage (flow_staged.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from hunyuan_video.errors import Print
from hunyuan_video.flow import EulerSolver, FlowBatch, FlowObjective, FlowSchedule, integrate, resolution_shift
from hunyuan_video.training.config import EncodedFlowRun, FlowRun, LoRAConfig, StagesRun
from hunyuan_video.training.generators import generator_on
from hunyuan_video.training.network import check_frames, export_network, make_network
from hunyuan_video.training.recorded import Recorded
from hunyuan_video.training.tasks.fields import Condition, guided_field

# Latents [B, C, T, h, w] float32, and their text; it is asked for after the noise is drawn, from the same generator.
Sample = tuple[Tensor, Callable[[], Condition]]


class FlowData(Protocol):
    """Captioned latents, drawn by (step, part) and a generator; and how what was learned from them is judged."""

    channels: int | None  # of the latents; None where the model's own are right
    frames: dict[str, int]  # latent frames of what is drawn, by the setting that says so
    t_shift: float  # of the training times, and of samples
    t_shift_tokens: int  # for clips of so many tokens; 0: of any size
    varies: bool  # whether micro-batches have several sizes
    contents: str  # of a data set, in short; "" where clips are drawn without end

    @property
    def names(self) -> list[str]: ...  # of the clips drawn last
    @property
    def device(self) -> str: ...  # whose generators it draws with
    @property
    def unreadable(self) -> int: ...  # clips passed over in the steps so far, also before a resume
    def begin(self, step: int, part: int, parts: int) -> None: ...
    def draw(self, generator: torch.Generator) -> Sample: ...
    def evaluate(self, task: FlowTask, step: int, folder: Path) -> dict[str, float]: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...
    def __str__(self) -> str: ...


class FlowTask:
    """The flow-matching run as a task of `training.loop.train`."""

    def __init__(self, config: FlowRun | EncodedFlowRun | StagesRun, data: FlowData, report: Print = print):
        self.config, self.data, self.device = config, data, config.loop.device
        torch.manual_seed(config.loop.seed)
        model, self.lora = dict(config.model), getattr(config, "lora", LoRAConfig())
        if data.channels is not None:
            model |= {"in_channels": data.channels, "out_channels": data.channels}
        self.network = make_network(config.init_from, model, self.lora, config.image_condition)
        self.recorded = Recorded(self.network, config.loop.cuda_graphs)
        for where, frames in data.frames.items():
            check_frames(self.network, where, frames)
        report(f"{sum(p.numel() for p in self.network.parameters()) / 1e6:.2f} M parameters{data}")

    @property
    def unreadable(self) -> int:
        """Clips passed over so far."""
        return self.data.unreadable

    @property
    def clips_drawn(self) -> list[str]:
        return self.data.names

    @property
    def contents(self) -> str:
        return self.data.contents

    def begin(self, step: int, part: int, parts: int) -> None:
        self.data.begin(step, part, parts)

    def extra_state(self) -> dict[str, Any]:
        return self.data.state()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.data.load(state)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        generator = generator_on(self.data.device, generator)
        latents, condition = self.data.draw(generator)
        parts = {"samples": float(len(latents))} if self.data.varies else {}
        return self.loss_of(latents, condition, generator), parts

    def loss_of(
        self,
        latents: Tensor,  # [B, C, T, h, w]
        condition: Callable[[], Condition],
        generator: torch.Generator,
    ) -> Tensor:
        objective = self.objective(latents)
        batch = objective.draw(latents.to(self.device), generator)
        return objective.loss(self.predict(batch, condition()), batch)

    @torch.no_grad()
    def mean_loss(
        self,
        latents: Tensor,  # [N, C, T, h, w]
        condition: Callable[[], Condition],  # [N, ...]
        generator: torch.Generator,
        size: int,  # clips at once: those of the training's micro-batch
    ) -> float:
        """The loss of many clips; the draw, and up to rounding the result, do not depend on `size`."""
        objective = self.objective(latents)
        drawn, losses = objective.draw(latents, generator), []
        texts = condition()
        for start in range(0, len(latents), size):
            part = FlowBatch(*(tensor[start : start + size].to(self.device) for tensor in drawn))
            text = {name: tensor[start : start + size] for name, tensor in texts.items()}
            losses.append(objective.loss_per_sample(self.predict(part, text), part))
        return torch.cat(losses).mean().item()

    @staticmethod
    def at_once(micro_batch: int) -> int:
        """Samples to make together: guidance doubles them, and training holds a micro-batch."""
        return max(micro_batch // 2, 1)

    def predict(self, batch: FlowBatch, condition: Condition) -> Tensor:  # [B, C, T, h, w]
        return self.recorded(batch.latents, batch.timesteps, **self.conditioned(condition))

    def conditioned(self, condition: Condition) -> Condition:
        """The transformer's arguments: on its device, with guidance 1 where it takes one."""
        moved = {name: tensor.to(self.device) for name, tensor in condition.items()}
        if self.network.config.guidance_embed:
            moved["guidance"] = torch.full((len(moved["text"]),), 1000.0, device=self.device, dtype=torch.float32)
        return moved

    def objective(self, latents: Tensor) -> FlowObjective:  # [B, C, T, h, w]
        """The objective for clips of this size."""
        images = bool(self.config.image_condition)
        return FlowObjective(self.config.t_mean, self.config.t_std, self.shift(latents), first_frame=images)

    def shift(self, latents: Tensor) -> float:  # [B, C, T, h, w]
        data = self.data
        if not data.t_shift_tokens:
            return data.t_shift
        tokens = math.prod(latents.shape[2:]) // self.network.config.patch_volume
        return resolution_shift(tokens, data.t_shift_tokens, data.t_shift)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.config.loop.precision == "bf16")

    @torch.no_grad()
    def sample(
        self,
        both: Condition,  # [2 B, ...] each: B empty captions, then the captions
        noise: Tensor,  # [B, C, T, h, w]
        first: Tensor | None = None,  # [B, C, 1, h, w], in image-to-video
    ) -> Tensor:
        """Euler with classifier-free guidance: latents [B, C, T, h, w]."""
        config = self.config
        field = guided_field(self.network, self.conditioned(both), config.cfg_scale)
        solver = EulerSolver(FlowSchedule(config.sample_steps, self.shift(noise)))
        with self.autocast():
            return integrate(field, noise.to(self.device), solver, first)

    def sample_in_parts(
        self,
        both: Condition,  # [2 N, ...] each
        noise: Tensor,  # [N, C, T, h, w]
        first: Tensor | None,  # [N, C, 1, h, w]
        size: int,  # samples at once
    ) -> Tensor:  # [N, C, T, h, w]
        made, count = [], len(noise)
        for start in range(0, count, size):
            part = slice(start, start + size)
            rows = torch.arange(count)[part]
            text = {name: tensor[torch.cat((rows, rows + count))] for name, tensor in both.items()}
            made.append(self.sample(text, noise[part], None if first is None else first[part]))
        return torch.cat(made)

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        return self.data.evaluate(self, step, folder)

    def export(self, folder: Path) -> None:
        export_network(self.network, self.lora, folder)
