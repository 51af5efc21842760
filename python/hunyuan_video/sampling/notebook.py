"""Videos in a notebook: as HTML with the mp4 inside, so that a saved notebook still shows them."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np
from torch import Tensor

from hunyuan_video.media.pixels import to_bytes
from hunyuan_video.media.write import save_video


def videos_html(frames: Any, seeds: list[int], fps: float) -> str | None:
    """Videos side by side, a seed below each; None where `frames` are latents.

    frames: as SampleOutput has them, output_type "np", "pt" or "pil".
    """
    videos = _pixels(frames)
    if videos is None:
        return None
    return "".join(_figure(video, fps, f"seed {seed}") for video, seed in zip(videos, seeds, strict=True))


def _pixels(frames: Any) -> list[np.ndarray] | None:
    """Each video as uint8 [F, H, W, 3]."""
    if isinstance(frames, np.ndarray):
        return list(frames)
    if isinstance(frames, Tensor):
        if frames.shape[1] != 3:
            return None
        return list(to_bytes(frames).permute(0, 2, 3, 4, 1).cpu().numpy())
    return [np.stack([np.asarray(frame) for frame in video]) for video in frames]


def _figure(video: np.ndarray, fps: float, caption: str) -> str:
    file = io.BytesIO()
    still = video.shape[0] == 1
    save_video(file, video, fps, format="png" if still else "mp4")
    data = base64.b64encode(file.getvalue()).decode()
    if still:
        shown = f'<img src="data:image/png;base64,{data}" alt="{html.escape(caption)}">'
    else:
        shown = f'<video src="data:video/mp4;base64,{data}" controls loop muted playsinline></video>'
    style = "display:inline-block;margin:4px"
    return f'<figure style="{style}">{shown}<figcaption>{html.escape(caption)}</figcaption></figure>'
