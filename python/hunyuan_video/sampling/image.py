"""The image that an image-to-video model continues: read, cut to the video's size, encoded as the first latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hunyuan_video.errors import ArgumentError, explained_memory_errors
from hunyuan_video.media.images import fit_image, read_image
from hunyuan_video.media.pixels import check_finite, to_unit

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE
    from hunyuan_video.sampling.models import LoadedModels
    from hunyuan_video.sampling.request import Settings


def first_frames(
    models: LoadedModels, image: Any, settings: Settings, prompts: int
) -> Tensor | None:  # [prompts, C, 1, h, w] float32, model space
    """The first latent frame of each prompt's videos; None for a text-to-video model. ArgumentError or UserError where
    model and request do not fit.
    """
    if not models.transformer.config.image_condition:
        if image is not None:
            raise ArgumentError("image: this model makes videos from text only; leave image out, or load an I2V model")
        return None
    if image is None:
        raise ArgumentError("this model continues an image and none was given; give one with image= (--image FILE)")
    if not models.has("vae"):
        raise ArgumentError("image: this pipeline has no vae to encode it with")
    if settings.num_frames == 1:
        raise ArgumentError(f"num_frames must be at least {models.grid.temporal + 1} with an image, got 1")
    images = list(image) if isinstance(image, (list, tuple)) else [image] * prompts
    if len(images) != prompts:
        raise ArgumentError(f"image has {len(images)} entries for {prompts} prompts; give one, or one each")
    return encode_images(
        models.vae, [fit_image(read_image(picture), settings.height, settings.width) for picture in images]
    )


def encode_images(
    vae: CausalVAE,
    images: Sequence[Tensor],  # uint8 [H, W, 3] each
) -> Tensor:  # [N, C, 1, h, w] float32 on the CPU, model space
    """The means of the posteriors; one image at a time, so that its bits do not depend on the others."""
    weight = next(vae.parameters())
    latents = []
    for image in images:
        pixels = to_unit(image[None, None])
        with torch.no_grad(), explained_memory_errors("encoding the image", "lower height or width"):
            mean = vae.encode(pixels.to(weight.device, weight.dtype)).mode()
        check_finite(mean, "the latents of the image", "load the VAE in float32 (--dtype float32)")
        latents.append(mean.float().cpu() * vae.config.scaling_factor)
    return torch.cat(latents)
