"""Still pictures from files, arrays and PIL, as 8-bit RGB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.errors import ArgumentError, UserError

if TYPE_CHECKING:
    from PIL import Image


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
