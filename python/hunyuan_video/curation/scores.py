"""All scores of a shot: first the crop, then what is measured within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hunyuan_video.curation.sample import Sample
from hunyuan_video.curation.stages.borders import border_crop
from hunyuan_video.curation.stages.camera import camera_scores
from hunyuan_video.curation.stages.crop import Crop
from hunyuan_video.curation.stages.embedding import mean_embedding
from hunyuan_video.curation.stages.flow import Flow
from hunyuan_video.curation.stages.logos import Logo, find_logos, logo_area, logo_crop
from hunyuan_video.curation.stages.motion import motion_scores
from hunyuan_video.curation.stages.text import subtitle_crop, text_area

FLOOR = 0.6  # of the area: less is not cropped but left to the filters (HunyuanVideo 1.5)
CLEAR, CLEAR_WITHIN = 0.7, 0.25  # of the middle frame's Laplacian; share of the clip that may be skipped for it


@dataclass(frozen=True)
class Shot:
    """Frames start..end - 1 of a video and what was seen of them."""

    start: int
    end: int
    start_seconds: float
    end_seconds: float
    height: int  # of the picture on screen
    width: int
    fps: float  # the video's mean rate
    sharp: Sequence[float]  # Laplacian of every frame
    flows: Sequence[Flow]
    samples: Sequence[Sample]


def score_shot(shot: Shot) -> dict[str, Any]:
    """A row of the manifest, without what only the whole set tells (duplicates, tiers)."""
    logos = find_logos([sample.small for sample in shot.samples], Crop())
    crop, borders, subtitles, cut_logos = _crop(shot, logos)
    x, y, width, height = crop.pixels(shot.height, shot.width)
    camera = camera_scores(shot.flows, crop, shot.width / shot.height)
    seconds = max(shot.end_seconds - shot.start_seconds, 0.0)
    return {
        "start_frame": shot.start,
        "end_frame": shot.end,
        "start": shot.start_seconds,
        "end": shot.end_seconds,
        "seconds": seconds,
        "clear_start": shot.start + _clear(shot.sharp),
        "width": shot.width,
        "height": shot.height,
        "fps": shot.fps,
        "crop": [x, y, width, height],
        "crop_area": width * height / (shot.width * shot.height),
        "short_side": min(width, height),
        "aspect": width / height,
        "border_area": 1 - borders.area,
        "subtitles": subtitles,
        "logo_area": logo_area(logos, Crop()),
        "logo_left": 0.0 if cut_logos else logo_area(logos, crop),
        **motion_scores(shot.flows, crop),
        **_picture_scores(shot.samples, crop),
        "camera": camera.camera,
        "camera_score": camera.score,
        "laplacian": float(np.median(shot.sharp)) if len(shot.sharp) else None,
    }


def _crop(shot: Shot, logos: Sequence[Logo]) -> tuple[Crop, Crop, bool, bool]:
    """(the crop, what lies within the borders, whether subtitles and whether logos were cut away).

    Each step counts only where enough of the picture is left.
    """
    borders = border_crop([sample.lines for sample in shot.samples])
    crop = borders if borders.area >= FLOOR else Crop()
    without = subtitle_crop([sample.text for sample in shot.samples], crop)
    subtitles = without != crop and without.area >= FLOOR
    crop = without if subtitles else crop
    clean = logo_crop(logos, crop)
    cut = clean != crop and clean.area >= FLOOR
    return (clean if cut else crop), borders, subtitles, cut


def _clear(sharp: Sequence[float]) -> int:
    """Frames to the first one that is sharp, as the paper begins clips; 0 where the start has none."""
    if not len(sharp):
        return 0
    enough = CLEAR * float(np.median(sharp))
    within = sharp[: max(round(CLEAR_WITHIN * len(sharp)), 1)]
    return next((number for number, value in enumerate(within) if value >= enough), 0)


def _picture_scores(samples: Sequence[Sample], crop: Crop) -> dict[str, Any]:
    """Middles over a clip's samples; all None where it has none."""
    names = ("sharpness", "brightness", "shadow", "burnt", "text_area", "text_left", "aesthetic", "technical")
    if not samples:
        return {**dict.fromkeys(names), "text": "", "embedding": None, "thumbnail": None}
    light = np.median([sample.exposure for sample in samples], axis=0)
    return {
        "sharpness": float(np.median([sample.sharpness for sample in samples])),
        "brightness": float(light[0]),
        "shadow": float(light[1]),
        "burnt": float(light[2]),
        "text_area": float(np.mean([text_area(sample.text, Crop()) for sample in samples])),
        "text_left": float(np.mean([text_area(sample.text, crop) for sample in samples])),
        "text": " / ".join(dict.fromkeys(box.text for sample in samples for box in sample.text))[:500],
        "aesthetic": float(np.mean([sample.aesthetic for sample in samples])),
        "technical": float(np.mean([sample.technical for sample in samples])),
        "embedding": mean_embedding([sample.embedding for sample in samples]).astype(np.float16).tobytes(),
        "thumbnail": samples[len(samples) // 2].thumbnail,
    }
