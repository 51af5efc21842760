"""Motion of the outline of an object at rest from frame to frame, in parts of a pixel.

Rays go out from the object's middle; along each, the place where its opacity falls through one half is found between
pixels. A drawn clip has 0; a decoder that draws every frame anew lets the outline tremble.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.data.toyworld import WORLDS, Attributes, WideScene, render, with_details
from hunyuan_video.data.toyworld.scene import AnyScene
from hunyuan_video.evaluation.prompt_following import complete_caption

DIRECTIONS = 90
STEP = 0.25  # pixels along a ray
LEAST = 0.5  # of the rays must meet the outline in all frames


def outline_wobble(frames: Tensor) -> float:  # uint8 [F, H, W, 3]
    """Standard deviation over time of the outline's distance from the middle, mean over directions, in pixels.

    For one object at rest on a plain background before a static camera; NaN where no outline is found in all frames.
    """
    opacity = _opacity(frames.float() / 255.0)
    mean = opacity.mean(0)
    height, width = mean.shape
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    total = mean.sum().clamp(min=1e-6)
    x, y = (mean.sum(0) * columns).sum() / total, (mean.sum(1) * rows).sum() / total
    angles = torch.arange(DIRECTIONS) * (2.0 * math.pi / DIRECTIONS)
    reach = torch.arange(0.0, min(height, width) / 2.0, STEP)
    ray_x, ray_y = x + reach * torch.cos(angles)[:, None], y + reach * torch.sin(angles)[:, None]
    points = torch.stack([(2.0 * ray_x + 1.0) / width - 1.0, (2.0 * ray_y + 1.0) / height - 1.0], -1)
    grid = points[None].expand(len(opacity), -1, -1, -1)
    seen = F.grid_sample(opacity[:, None], grid, align_corners=False)[:, 0]  # [F, directions, steps]
    places = _crossings(seen)
    complete = ~places.isnan().any(0)
    if complete.float().mean() < LEAST:
        return float("nan")
    return (STEP * places[:, complete].std(0, correction=0)).mean().item()


def _opacity(pictures: Tensor) -> Tensor:  # [F, H, W, 3]
    """The object's share of each pixel: between the color of the picture's rim and the color farthest from it."""
    rim = torch.cat([pictures[:, 0].flatten(0, 1), pictures[:, -1].flatten(0, 1), pictures[:, :, 0].flatten(0, 1)])
    ground = rim.median(0).values
    away = (pictures - ground).square().sum(-1)
    paint = pictures[away >= torch.quantile(away[len(away) // 2].flatten(), 0.985)].median(0).values
    way = paint - ground
    return ((pictures - ground) @ way / way.square().sum().clamp(min=1e-6)).clamp(0.0, 1.0)


def _crossings(seen: Tensor) -> Tensor:
    """Steps at which each ray leaves the object for the last time, between samples: [F, directions]; NaN: never."""
    falls = (seen[..., :-1] >= 0.5) & (seen[..., 1:] < 0.5)
    number = torch.arange(falls.shape[-1])
    last = torch.where(falls, number, -1).amax(-1)
    before = seen.gather(-1, last.clamp(min=0)[..., None])[..., 0]
    after = seen.gather(-1, last.clamp(min=0)[..., None] + 1)[..., 0]
    place = last + (before - 0.5) / (before - after).clamp(min=1e-6)
    return torch.where(last >= 0, place, float("nan"))


def resting_scenes(world: str, count: int, seed: int = 2026) -> list[AnyScene]:
    """Scenes of a world with one object at rest on a plain background before a static camera."""
    scenes: list[AnyScene] = []
    index = 0
    while len(scenes) < count:
        scene = WORLDS[world].scene(index, seed=seed)
        index += 1
        if isinstance(scene, WideScene):
            thing = replace(scene.things[0], motion="rest", speed="normal", count=1, fill="plain")
            if scene.relation is None and scene.background == "plain":
                scenes.append(replace(scene, things=(thing,), camera="static shot"))
        else:
            words = {**scene.attributes(), "motion": "static", "texture": "plain", "camera": "static shot"}
            scenes.append(with_details(Attributes(**words), seed=index))
    return scenes


def mean_wobble(clips: Tensor) -> dict[str, float]:  # uint8 [N, F, H, W, 3]
    """Mean and largest wobble of clips, and the share in which an outline was found."""
    values = [value for value in map(outline_wobble, clips) if not math.isnan(value)]
    mean = sum(values) / len(values) if values else float("nan")
    return {"mean": mean, "worst": max(values, default=float("nan")), "found": len(values) / max(len(clips), 1)}


def wobble_table(
    generate: Callable[..., Tensor],  # (prompts, first seed) -> uint8 [N, F, H, W, 3]
    reconstruct: Callable[[Tensor], Tensor],  # uint8 [N, F, H, W, 3] -> the same, through the VAE
    world: str,
    count: int,
    *,
    size: int | tuple[int, int],
    num_frames: int,
    seed: int = 2026,
) -> dict[str, dict[str, float]]:
    """`mean_wobble` of drawn, reconstructed and generated clips of resting objects."""
    scenes = resting_scenes(world, count, seed)
    prompts = [complete_caption(scene, random.Random(f"{seed}/{i}")) for i, scene in enumerate(scenes)]
    real = render(scenes, num_frames=num_frames, size=size)
    made = generate(prompts, seed)
    rows = {"real clips": real, "reconstructed by the VAE": reconstruct(real), "generated": made}
    return {name: mean_wobble(clips) for name, clips in rows.items()}


def wobble_lines(table: dict[str, dict[str, float]]) -> str:
    """`wobble_table` as lines for people."""
    return "\n".join(
        f"outline of a resting object, {name}: trembles by {row['mean']:.2f} pixels (worst {row['worst']:.2f})"
        for name, row in table.items()
    )
