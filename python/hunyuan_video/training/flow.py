"""Training the transformer with flow matching on cached latents (paper section 4.4).

x_t = (1 - t) data + t noise, target v = noise - data, t logit-normal; captions in random sentence forms, replaced by
the empty caption with probability `text_dropout` so that classifier-free guidance has an unconditional branch.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor

from hunyuan_video.data.toyworld import caption
from hunyuan_video.evaluation.prompt_following import held_out_prompts, judge, shifted
from hunyuan_video.evaluation.sheets import contact_sheet
from hunyuan_video.flow import FlowObjective, FlowSchedule, classifier_free_guidance, euler_step
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.training.clips import scenes_of, to_frames
from hunyuan_video.training.config import FlowRun
from hunyuan_video.training.latents import latent_cache
from hunyuan_video.training.parts import load_text


class FlowTask:
    """The flow-matching run as a task of `training.loop.train`."""

    def __init__(self, config: FlowRun, folder: Path, report=print):
        self.config = config
        self.vae = CausalVAE.from_pretrained(config.vae).eval().requires_grad_(False)
        self.text, self.clip = load_text(config.text)
        self.latents = latent_cache(self.vae, config.world, folder.parent / "latents", report)
        self.scenes = scenes_of(config.world, 0, config.world.clips)
        torch.manual_seed(config.loop.seed)
        model = {**config.model, "in_channels": self.latents.shape[1], "out_channels": self.latents.shape[1]}
        if config.init_from:
            self.network = HunyuanVideoTransformer.from_pretrained(config.init_from, dtype=torch.float32)
        else:
            self.network = HunyuanVideoTransformer(TransformerConfig(**model))
        self.objective = FlowObjective(config.t_mean, config.t_std, config.t_shift)
        parameters = sum(p.numel() for p in self.network.parameters())
        report(
            f"{parameters / 1e6:.2f} M parameters, {len(self.latents)} clips of latents {tuple(self.latents.shape[1:])}"
        )

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> dict[str, Tensor]:
        text, pooled = self.text(prompts), self.clip(prompts).pooled
        return {"text": text.hidden, "text_mask": text.mask, "pooled_text": pooled}

    def captions(self, picks: list[int], generator: torch.Generator) -> list[str]:
        """A sentence for each clip, in a random form, or the empty caption."""
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        return ["" if rng.random() < self.config.text_dropout else caption(self.scenes[i], rng=rng).text for i in picks]

    def loss(self, step: int, generator: torch.Generator):
        picks = torch.randint(len(self.latents), (self.config.loop.micro_batch,), generator=generator)
        batch = self.objective.draw(self.latents[picks].float(), generator)
        condition = self.embed(self.captions(picks.tolist(), generator))
        velocity = self.network(batch.latents, batch.timesteps, **condition)
        return self.objective.loss(velocity, batch), {}

    @torch.no_grad()
    def sample(self, prompts: list[str], seed: int) -> Tensor:
        """Euler with classifier-free guidance, uint8 [N, F, H, W, 3]."""
        shape = (len(prompts), *self.latents.shape[1:])
        x = torch.cat(
            [torch.randn((1, *shape[1:]), generator=torch.Generator().manual_seed(seed + i)) for i in range(shape[0])]
        )
        both = self.embed([""] * len(prompts) + prompts)
        schedule = FlowSchedule(self.config.sample_steps, self.config.t_shift)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.loop.precision == "bf16"):
            for i in range(self.config.sample_steps):
                t = schedule.timesteps[i].expand(2 * len(prompts))
                empty, full = self.network(torch.cat((x, x)), t, **both).float().chunk(2)
                velocity = classifier_free_guidance(full, empty, self.config.cfg_scale)
                x = euler_step(x, velocity, schedule.sigmas[i], schedule.sigmas[i + 1])
            return to_frames(self.vae.decode(x / self.vae.config.scaling_factor))

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        config = self.config
        scenes, prompts = held_out_prompts(config.world.name, config.eval_prompts, config.world.held_out_seed)
        clips = torch.cat([self.sample(prompts[i : i + 20], 100 + i) for i in range(0, len(prompts), 20)])
        contact_sheet(folder / "sheets" / f"step_{step:06d}.png", list(clips[:16]), prompts[:16])
        table, floor = judge(clips, scenes), judge(clips, shifted(scenes))
        return {**table, **{f"floor_{key}": value for key, value in floor.items()}}

    def export(self, folder: Path) -> None:
        self.network.save_pretrained(folder)
