"""All metrics of a folder of videos, with intervals; and its distance from a folder of real ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.errors import UserError
from hunyuan_video.evaluation.clips import clips_of, equal_shapes, paired_clips, prompts_of, world_of_clips
from hunyuan_video.evaluation.intervals import mean_interval, wilson
from hunyuan_video.evaluation.measures.catalog import (
    FOLLOWING,
    WITH_REFERENCE,
    Meter,
    measure_of,
    offline,
)
from hunyuan_video.evaluation.measures.features import DISTANCE_LOOKS, Looker, clip_point, distances, spread
from hunyuan_video.phases import tell


def folder_metrics(
    folder: str | Path,
    *,
    suite: str | None = None,
    world: str | None = None,
    reference: str | Path | None = None,
    real: str | Path | None = None,
    names: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """Means and 95 % intervals of metrics over the videos of a folder; JSON types.

    suite, world: prompts and their judge, where the videos' records do not say. reference: a folder of videos of the
    same names for psnr and ssim. real: a folder of videos of the same kind for the distances. names: of metrics, in
    place of all that can be had. Raises UserError.
    """
    clips = clips_of(folder)
    chosen = tuple(measure_of(name).name for name in names) if names else _available(reference)
    pairs = dict(paired_clips(folder, reference)) if reference is not None else {}
    if reference is None and (missing := [name for name in chosen if name in WITH_REFERENCE]):
        raise UserError(f"{missing[0]} needs --reference, a folder of the videos to be like")
    prompts: dict[str, str] = {}
    notes: list[str] = []
    if any(name.startswith(FOLLOWING) for name in chosen):
        try:
            world, prompts = world_of_clips(clips, world), prompts_of(clips, suite)
        except UserError as error:
            if names or world or suite:
                raise
            notes.append(f"no prompt following: {error}")
    meter = Meter(chosen, world)
    rows: dict[str, dict[str, float]] = {}
    points = []
    for number, clip in enumerate(clips, 1):
        if clip in pairs:
            frames, like = equal_shapes(clip, pairs[clip])
        else:
            frames, like = clip.frames(), None
        rows[clip.id] = meter.of_frames(frames, clip.rate(), prompts.get(clip.id), like)
        if real is not None:
            points.append(_point(meter.looker, frames))
        tell("measuring", number, len(clips))
    result: dict[str, Any] = {"folder": str(folder), "videos": len(clips), "world": world if prompts else None}
    result["metrics"] = {name: _summary(name, rows) for name in _columns(rows)}
    if real is not None:
        others = [_point(meter.looker, clip.frames()) for clip in clips_of(real)]
        result["distances"] = distances(np.stack(points), np.stack(others))
    return {**result, "per_video": {name: _finite(row) for name, row in rows.items()}, "notes": notes}


def _available(reference: str | Path | None) -> tuple[str, ...]:
    return (FOLLOWING, *offline(), *(WITH_REFERENCE if reference is not None else ()))


def _point(looker: Looker, frames: np.ndarray) -> np.ndarray:  # uint8 [F, H, W, 3] -> [1280]
    return clip_point(looker.embeddings(spread(frames, DISTANCE_LOOKS)))


def _columns(rows: dict[str, dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def _finite(row: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


def _summary(name: str, rows: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Mean, interval and count of a metric, with where it is from and what it rewards wrongly."""
    values = [row[name] for row in rows.values() if math.isfinite(row.get(name, math.nan))]
    measure = measure_of(name)
    mean = math.fsum(values) / len(values) if values else None
    interval = None
    if mean is not None:
        interval = wilson(mean, len(values)) if measure.share else mean_interval(values)
    low, high = interval or (None, None)
    return {
        "mean": mean, "low": low, "high": high, "count": len(values),
        "reference": measure.reference, "failure": measure.failure,
    }  # fmt: skip


def as_markdown(result: dict[str, Any]) -> str:
    """`folder_metrics` as a table and lines."""
    lines = ["| metric | mean | 95 % interval | videos | rewards wrongly |", "|---|---|---|---|---|"]
    for name, row in result["metrics"].items():
        mean = "" if row["mean"] is None else f"{row['mean']:.4g}"
        interval = "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
        lines.append(f"| {name} | {mean} | {interval} | {row['count']} | {row['failure']} |")
    if apart := result.get("distances"):
        for name in ("frechet", "kid"):
            own, other = apart[name], apart[f"{name}_real_against_real"]
            lines.append(f"{name} distance from the real videos {own:.4g}, of real from real {other:.4g}")
        lines.append(f"both at {apart['count']} videos a set")
    return "\n".join([*lines, *result["notes"]])
