"""Flow matching on a data set of `hunyuan-video encode`, `kind: flow_encoded`: any buckets, no encoder in the loop.

The bucket of a step and the clips of a batch are functions of (seed, step, part), so resuming, the number of ranks and
the number of reading threads change neither.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.encoder import Encoder
from hunyuan_video.data.latent_dataset import Batch, EncodedDataset
from hunyuan_video.data.prefetch import Prefetcher
from hunyuan_video.errors import Print, UserError
from hunyuan_video.media.sheets import contact_sheet, moments
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.config import VALIDATION_SEED, EncodedFlowRun
from hunyuan_video.training.tasks.flow import FlowTask, Sample
from hunyuan_video.training.tasks.frames import frames_of_one, try_decoder

SHOWN = 4  # clips of each bucket in a sheet


def encoded_flow(config: EncodedFlowRun, folder: Path, report: Print = print) -> FlowTask:
    """The run as a task. Raises UserError."""
    return FlowTask(config, EncodedData(config), report)


class BucketOrder:
    """The bucket of every step, and how many earlier steps had the same one."""

    def __init__(self, weights: dict[str, float], steps: int, seed: int):
        self.names = sorted(weights)
        chances = torch.tensor([float(weights[name]) for name in self.names], dtype=torch.float32, device="cpu")
        draws = torch.multinomial(chances, steps, True, generator=torch.Generator().manual_seed(seed))
        self.draws = draws.tolist()
        self.earlier = torch.zeros(steps, dtype=torch.int64, device="cpu")
        for index in range(len(self.names)):
            of_bucket = draws == index
            self.earlier[of_bucket] = torch.arange(int(of_bucket.sum()), device="cpu")

    def at(self, step: int) -> tuple[str, int]:
        """(bucket, its number of batches before this step)."""
        return self.names[self.draws[step]], int(self.earlier[step])


def open_encoded(config: EncodedFlowRun, encoder: Encoder) -> tuple[EncodedDataset, dict[str, float]]:
    """The run's data set, and how often each bucket is drawn. Raises UserError."""
    data = EncodedDataset(Path(config.data), held_out=config.held_out, image_first=bool(config.image_condition))
    data.check_encoders(encoder.hashes(data.format))
    data.tell_differences()
    weights = config.weights or {name: len(members) for name, members in data.buckets.items()}
    if unknown := sorted(set(weights) - set(data.buckets)):
        raise UserError(f"weights: no bucket {unknown[0]!r} in {config.data}; it has {', '.join(data.buckets)}")
    if not all(isinstance(w, int | float) and w >= 0 for w in weights.values()) or not any(weights.values()):
        raise UserError("weights: give each bucket a number of at least 0, and one above it")
    return data, weights


def condition_of(batch: Batch) -> dict[str, Tensor]:
    """The transformer's text arguments."""
    return {"text": batch.text, "text_mask": batch.mask, "pooled_text": batch.pooled}


class EncodedData:
    """Clips of one bucket a step, read ahead by threads; judged by the loss of held-out clips."""

    varies, device = False, "cpu"

    def __init__(self, config: EncodedFlowRun):
        self.config = config
        self.encoder = Encoder(config.checkpoint, config.loop.device)
        self.clips, weights = open_encoded(config, self.encoder)
        self.order = BucketOrder(weights, config.loop.steps, config.loop.seed)
        self.batches = Prefetcher(self.read, config.workers)
        self.place = (0, 0, 1)  # step, part and parts
        self.names: list[str] = []
        self.unreadable = 0  # clips passed over so far
        self.contents = self.clips.contents()
        self.t_shift, self.t_shift_tokens = config.t_shift, config.t_shift_tokens
        bucket = next(iter(self.clips.buckets))
        self.channels: int | None = self.clips.clip(bucket, 0, config.loop.seed).latents.shape[0]
        self.grid = replace(Grid.of(self.encoder.vae.config), patch=1)
        drawn = [name for name, weight in weights.items() if weight]
        self.frames = {f"weights: bucket {name}": self.latent_frames(name) for name in drawn}
        if config.held_out:
            try_decoder(self.encoder.vae)

    def __str__(self) -> str:
        return "; clips: " + ", ".join(f"{len(members)} of {name}" for name, members in self.clips.buckets.items())

    def begin(self, step: int, part: int, parts: int) -> None:
        self.place = (step, part, parts)

    def read(self, step: int, part: int) -> Batch:
        bucket, earlier = self.order.at(step)
        config, number = self.config, earlier * self.place[2] + part
        seed = config.loop.seed
        return self.clips.batch(bucket, number, config.loop.micro_batch, seed=seed, dropout=config.text_dropout)

    def draw(self, generator: torch.Generator) -> Sample:
        batch = self.batches.get(*self.place[:2], self.config.loop.steps - 1)
        self.unreadable += batch.passed
        self.names = [f"{self.order.at(self.place[0])[0]}/{key}" for key in batch.keys]
        return batch.latents, lambda: condition_of(batch)

    def state(self) -> dict[str, Any]:
        """A count; what is read is a function of the step."""
        return {"unreadable": self.unreadable}

    def load(self, state: dict[str, Any]) -> None:
        self.unreadable = state.get("unreadable", 0)

    @torch.no_grad()
    def evaluate(self, task: FlowTask, step: int, folder: Path) -> dict[str, float]:
        """The loss of held-out clips at fixed noise and timesteps, and a sheet of samples for their captions."""
        losses, pictures, captions = [], [], []
        size = self.config.loop.micro_batch
        for name in self.clips.kept_back:
            clips = self.clips.held_out_clips(name)
            if not clips or (self.config.image_condition and self.latent_frames(name) < 2):
                continue
            batch = self.clips.collate(clips, [0] * len(clips))
            generator = torch.Generator().manual_seed(VALIDATION_SEED)
            with task.autocast():
                losses.append(task.mean_loss(batch.latents, partial(condition_of, batch), generator, size))
            few = self.clips.collate(clips[:SHOWN], [0] * len(clips[:SHOWN]))
            pictures += self.sample(task, few)
            captions += few.captions
        if not losses:
            return {}
        contact_sheet(folder / "sheets" / f"step_{step:06d}.png", pictures, captions)
        return {"validation_loss": sum(losses) / len(losses)}

    def latent_frames(self, bucket: str) -> int:
        return self.grid.latent_frames(Bucket.parse(bucket, self.grid).frames)

    def sample(self, task: FlowTask, batch: Batch) -> list[Tensor]:
        """Clips for the captions of a batch, as sheets show them: uint8 [frames, H, W, 3] each."""
        count = len(batch.keys)
        empty = condition_of(self.clips.collate([self.clips.empty] * count, [-1] * count))
        both = {name: torch.cat((empty[name], tensor)) for name, tensor in condition_of(batch).items()}
        noise = torch.randn(
            batch.latents.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32, device="cpu"
        )
        first = batch.latents[:, :, :1].to(task.device) if self.config.image_condition else None
        latents = task.sample_in_parts(both, noise, first, task.at_once(self.config.loop.micro_batch))
        return [moments(frames_of_one(self.encoder.vae, latent)[0]) for latent in latents.split(1)]
