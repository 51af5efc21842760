"""Pipelines of diffusers with a few thousand random weights, and the arguments of their calls."""

from __future__ import annotations

from types import SimpleNamespace

import diffusers
import torch
from torch import Tensor

SIZES = dict(
    out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1, num_single_layers=1,
    num_refiner_layers=1, text_embed_dim=24, pooled_projection_dim=20, rope_axes_dim=(4, 6, 6),
)  # fmt: skip
VAE_SIZES = dict(latent_channels=4, block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4)
NO_TEXT = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
CHANNELS = {None: 4, "latent_concat": 9, "token_replace": 4}


def transformer(kind: str | None = None, dtype: torch.dtype = torch.float32, **sizes):
    torch.manual_seed(0)
    made = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=CHANNELS[kind], image_condition_type=kind, **{**SIZES, **sizes}
    )
    return as_dtype(made, dtype)


def vae(dtype: torch.dtype = torch.float32):
    torch.manual_seed(1)
    return as_dtype(diffusers.AutoencoderKLHunyuanVideo(**VAE_SIZES), dtype)


def as_dtype(model, dtype):
    for parameter in model.parameters():  # .to(dtype) of diffusers logs a warning
        parameter.data = parameter.data.to(dtype)
    return model.eval()


def parts(kind: str | None = None, dtype: torch.dtype = torch.float32):
    """Something with a transformer and a VAE, as a pipeline has them."""
    return SimpleNamespace(transformer=transformer(kind, dtype), vae=vae(dtype))


def pipeline(**parts):
    made = {"transformer": transformer(), "vae": vae(), **NO_TEXT, **parts}
    scheduler = made.pop("scheduler", None) or diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0)
    pipe = diffusers.HunyuanVideoPipeline(scheduler=scheduler, **made)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def forward_arguments(kind: str | None = None, dtype: torch.dtype = torch.float32, batch: int = 2) -> dict:
    mask = torch.ones(batch, 7, dtype=dtype)
    mask[0, 5:] = 0
    return dict(
        hidden_states=drawn(batch, CHANNELS[kind], 3, 4, 6, dtype=dtype), timestep=torch.full((batch,), 900.0),
        encoder_hidden_states=drawn(batch, 7, 24, seed=2, dtype=dtype), encoder_attention_mask=mask,
        pooled_projections=drawn(batch, 20, seed=3, dtype=dtype), guidance=torch.full((batch,), 6016.0, dtype=dtype),
        return_dict=False,
    )  # fmt: skip


def call(steps: int = 2, **changes) -> dict:
    """Arguments of a pipeline's call without text encoders."""
    given = dict(
        prompt_embeds=drawn(1, 7, 24, seed=2), prompt_attention_mask=torch.tensor([[1, 1, 1, 1, 1, 0, 0]]),
        pooled_prompt_embeds=drawn(1, 20, seed=3), height=32, width=32, num_frames=9, num_inference_steps=steps,
        latents=drawn(1, 4, 3, 4, 4), output_type="latent",
    )  # fmt: skip
    return {**given, **changes}


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of the difference, relative to b's."""
    return ((a.double() - b.double()).norm() / b.double().norm()).item()
