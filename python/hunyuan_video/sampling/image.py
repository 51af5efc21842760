"""The image that an image-to-video model continues: read, cut to the video's size, encoded as the first latent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.sampling.memory import explained_memory_errors

if TYPE_CHECKING:
    from PIL import Image

    from hunyuan_video.models import CausalVAE
    from hunyuan_video.sampling.pipeline import HunyuanVideoPipeline
    from hunyuan_video.sampling.request import Settings


def first_frames(
    pipe: HunyuanVideoPipeline, image: Any, settings: Settings, prompts: int
) -> Tensor | None:  # [prompts, C, 1, h, w] float32, model space
    """The first latent frame of each prompt's videos; None for a text-to-video model. ArgumentError or UserError where
    model and request do not fit.
    """
    if not pipe.transformer.config.image_condition:
        if image is not None:
            raise ArgumentError("image: this model makes videos from text only; leave image out, or load an I2V model")
        return None
    if image is None:
        raise ArgumentError("this model continues an image and none was given; give one with image= (--image FILE)")
    if pipe.vae is None:
        raise ArgumentError("image: this pipeline has no vae to encode it with")
    if settings.num_frames == 1:
        raise ArgumentError(f"num_frames must be at least {pipe.grid.temporal + 1} with an image, got 1")
    images = list(image) if isinstance(image, (list, tuple)) else [image] * prompts
    if len(images) != prompts:
        raise ArgumentError(f"image has {len(images)} entries for {prompts} prompts; give one, or one each")
    return encode_images(pipe.vae, [fit_image(read_image(one), settings.height, settings.width) for one in images])


def read_image(image: Any) -> Image.Image:
    """An RGB image from a file, a PIL image, or a uint8 array or tensor [H, W, 3].

    A file's orientation is applied and transparency dropped; 16-bit grey is scaled to 8 bits. UserError for a file that
    cannot be read and for floating-point pixels, ArgumentError for anything else.
    """
    from PIL import Image, ImageOps

    if isinstance(image, (str, Path)):
        try:
            with Image.open(image) as opened:
                return _rgb(ImageOps.exif_transpose(opened))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = getattr(error, "strerror", None) or "no image format that Pillow reads, or damaged"
            raise UserError(f"cannot read the image {image}: {reason}; give a PNG, JPEG or WebP file") from error
    if isinstance(image, Image.Image):
        return _rgb(image)
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    if not isinstance(pixels, np.ndarray):
        raise ArgumentError(f"image must be a file, a PIL image, or uint8 [H, W, 3], got {type(image).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ArgumentError(f"image must be uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB. Pillow itself cuts 16-bit grey off at 255, which leaves white; floats have no known range."""
    if image.mode == "F":
        raise UserError("image: floating-point pixels have no known range; give an image of 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    from PIL import Image

    grey = np.asarray(image).astype(np.float64) / 257
    return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")


def fit_image(image: Image.Image, height: int, width: int) -> Tensor:  # uint8 [height, width, 3]
    """The largest centred part with the video's aspect ratio, resized (Lanczos); one of that size stays as it is."""
    from PIL import Image, ImageOps

    fitted = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted))


def encode_images(
    vae: CausalVAE,
    images: Sequence[Tensor],  # uint8 [H, W, 3] each
) -> Tensor:  # [N, C, 1, h, w] float32 on the CPU, model space
    """The means of the posteriors; one image at a time, so that its bits do not depend on the others."""
    weight = next(vae.parameters())
    latents = []
    for image in images:
        pixels = image.permute(2, 0, 1).float().div_(127.5).sub_(1.0)[None, :, None]
        with torch.no_grad(), explained_memory_errors("encoding the image", "lower height or width"):
            mean = vae.encode(pixels.to(weight.device, weight.dtype)).mode()
        latents.append(mean.float().cpu() * vae.config.scaling_factor)
    return torch.cat(latents)
