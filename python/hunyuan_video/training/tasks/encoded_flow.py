"""Flow matching on a data set of `hunyuan-video encode`: any buckets, any videos, no encoder in the loop.

The bucket of a step and the clips of a batch are functions of (seed, step, part), so resuming, the number of ranks and
the number of reading threads change neither.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.encode import Encoder
from hunyuan_video.data.latent_dataset import Batch, EncodedDataset
from hunyuan_video.data.prefetch import Prefetcher
from hunyuan_video.errors import UserError
from hunyuan_video.evaluation.sheets import contact_sheet
from hunyuan_video.flow import EulerSolver, FlowObjective, FlowSchedule, integrate
from hunyuan_video.media.pixels import to_frames
from hunyuan_video.training.config import VALIDATION_SEED, EncodedFlowRun
from hunyuan_video.training.network import check_frames, export_network, make_network
from hunyuan_video.training.tasks.fields import guided_field


class BucketOrder:
    """The bucket of every step, and how many earlier steps had the same one."""

    def __init__(self, weights: dict[str, float], steps: int, seed: int):
        self.names = sorted(weights)
        chances = torch.tensor([float(weights[name]) for name in self.names])
        draws = torch.multinomial(chances, steps, True, generator=torch.Generator().manual_seed(seed))
        self.draws = draws.tolist()
        self.earlier = torch.zeros(steps, dtype=torch.int64)
        for index in range(len(self.names)):
            mine = draws == index
            self.earlier[mine] = torch.arange(int(mine.sum()))

    def at(self, step: int) -> tuple[str, int]:
        """(bucket, its number of batches before this step)."""
        return self.names[self.draws[step]], int(self.earlier[step])


def open_encoded(config: EncodedFlowRun, encoder: Encoder) -> tuple[EncodedDataset, dict[str, float]]:
    """The run's data set, and how often each bucket is drawn. Raises UserError."""
    data = EncodedDataset(Path(config.data), encoder.hashes(), config.held_out, bool(config.image_condition))
    weights = config.weights or {name: len(members) for name, members in data.buckets.items()}
    if unknown := sorted(set(weights) - set(data.buckets)):
        raise UserError(f"weights: no bucket {unknown[0]!r} in {config.data}; it has {', '.join(data.buckets)}")
    if not all(isinstance(w, int | float) and w >= 0 for w in weights.values()) or not any(weights.values()):
        raise UserError("weights: give each bucket a number of at least 0, and one above it")
    return data, weights


class EncodedFlowTask:
    """The run as a task of `training.loop.train`."""

    def __init__(self, config: EncodedFlowRun, folder: Path, report=print):
        self.config = config
        self.encoder = Encoder(config.checkpoint, config.loop.device)
        self.data, weights = open_encoded(config, self.encoder)
        images = bool(config.image_condition)
        self.order = BucketOrder(weights, config.loop.steps, config.loop.seed)
        self.batches = Prefetcher(self.read, config.workers)
        self.step_part = (0, 0, 1)
        torch.manual_seed(config.loop.seed)
        channels = self.data.clip(next(iter(self.data.buckets)), 0, config.loop.seed).latents.shape[0]
        model = {**config.model, "in_channels": channels, "out_channels": channels}
        self.network = make_network(config.init_from, model, config.lora, config.image_condition)
        for name, weight in weights.items():
            if weight:
                check_frames(self.network, f"weights: bucket {name}", Bucket.parse(name).frames // 4 + 1)
        self.objective = FlowObjective(config.t_mean, config.t_std, config.t_shift, first_frame=images)
        counts = ", ".join(f"{len(members)} of {name}" for name, members in self.data.buckets.items())
        report(f"{sum(p.numel() for p in self.network.parameters()) / 1e6:.2f} M parameters; clips: {counts}")

    @property
    def unreadable(self) -> int:
        """Clips passed over so far."""
        return self.data.unreadable

    def begin(self, step: int, part: int, parts: int) -> None:
        self.step_part = (step, part, parts)

    def read(self, step: int, part: int) -> Batch:
        bucket, earlier = self.order.at(step)
        config, parts = self.config, self.step_part[2]
        number = earlier * parts + part
        seed = config.loop.seed
        return self.data.batch(bucket, number, config.loop.micro_batch, seed=seed, dropout=config.text_dropout)

    def loss(self, step: int, generator: torch.Generator):
        batch = self.batches.get(step, self.step_part[1], self.config.loop.steps - 1)
        return self.loss_of(batch, generator), {}

    def loss_of(self, batch: Batch, generator: torch.Generator) -> Tensor:
        device = next(self.network.parameters()).device
        drawn = self.objective.draw(batch.latents, generator)
        velocity = self.network(
            drawn.latents.to(device),
            drawn.timesteps.to(device),
            text=batch.text.to(device),
            text_mask=batch.mask.to(device),
            pooled_text=batch.pooled.to(device),
        )
        return self.objective.loss(
            velocity, drawn._replace(times=drawn.times.to(device), target=drawn.target.to(device))
        )

    @torch.no_grad()
    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """The loss of held-out clips at fixed noise and timesteps, and a sheet of samples for their captions."""
        losses, pictures, captions = [], [], []
        device = self.config.loop.device
        with torch.autocast(device, torch.bfloat16, enabled=self.config.loop.precision == "bf16"):
            for name in self.data.kept_back:
                clips = self.data.held_out_clips(name)
                if not clips or (self.objective.first_frame and Bucket.parse(name).frames // 4 + 1 < 2):
                    continue
                batch = self.data.collate(clips, [0] * len(clips))
                losses.append(self.loss_of(batch, torch.Generator().manual_seed(VALIDATION_SEED)).item())
                few = [part[:4] for part in vars(batch).values()]
                pictures += list(self.sample(Batch(*few)))
                captions += batch.captions[:4]
        if not losses:
            return {}
        contact_sheet(folder / "sheets" / f"step_{step:06d}.png", pictures, captions)
        return {"validation_loss": sum(losses) / len(losses)}

    def sample(self, batch: Batch) -> Tensor:
        """Clips for the captions of a batch, by Euler with classifier-free guidance: uint8 [N, F, H, W, 3]."""
        count, device = len(batch.keys), next(self.network.parameters()).device
        empty = self.data.collate([self.data.empty] * count, [-1] * count)
        names = ("text", "mask", "pooled")
        text, mask, pooled = (torch.cat((getattr(empty, n), getattr(batch, n))).to(device) for n in names)
        noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(1)).to(device)
        velocity = guided_field(
            self.network, {"text": text, "text_mask": mask, "pooled_text": pooled}, self.config.cfg_scale
        )
        first = batch.latents[:, :, :1] if self.objective.first_frame else None
        solver = EulerSolver(FlowSchedule(self.config.sample_steps, self.config.t_shift))
        x = integrate(velocity, noise, solver, first)
        vae = self.encoder.vae
        return to_frames(vae.decode((x / vae.config.scaling_factor).to(next(vae.parameters()).dtype))).cpu()

    def export(self, folder: Path) -> None:
        export_network(self.network, self.config.lora, folder)
