"""Does the video follow its prompt? Judged on toyworld prompts by an analyser that sees only pixels.

The table has four rows: the analyser on real clips, on the VAE's reconstructions of them (the ceiling of any sampler),
on generated clips, and on generated clips judged against somebody else's prompt (the floor).
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from hunyuan_video.data.toyworld import WORLDS, Scene, analyse, caption, render, score

COLUMNS = ("color", "shape", "motion", "direction", "camera", "camera_moving", "all")


def held_out_prompts(world: str, count: int, seed: int = 4242) -> tuple[list[Scene], list[str]]:
    """Scenes of a seed that training never uses, and one caption each."""
    scenes = [WORLDS[world].scene(index, seed=seed) for index in range(count)]
    return scenes, [caption(scene, rng=random.Random(f"{seed}/{i}")).text for i, scene in enumerate(scenes)]


def judge(clips: Tensor, scenes: list[Scene]) -> dict[str, float]:  # uint8 [N, F, H, W, 3]
    """Fractions of clips whose colour, shape, motion and camera are those of their scene."""
    return score([analyse(clip) for clip in clips], scenes)


def shifted(scenes: list[Scene]) -> list[Scene]:
    """Every clip gets the scene of another prompt: what a model that ignores its prompt would score."""
    return scenes[1:] + scenes[:1]


def prompt_following(
    generate: Callable[[list[str], int], Tensor],  # (prompts, first seed) -> uint8 [N, F, H, W, 3]
    world: str,
    count: int,
    *,
    reconstruct: Callable[[Tensor], Tensor] | None = None,  # uint8 [N, F, H, W, 3] -> the same, through the VAE
    size: int = 64,
    num_frames: int = 17,
    seed: int = 4242,
    batch: int = 20,
) -> tuple[dict[str, dict[str, float]], Tensor, list[str]]:
    """The table {row: {column: fraction}}, the generated clips, and their prompts."""
    scenes, prompts = held_out_prompts(world, count, seed)
    clips = torch.cat([generate(prompts[i : i + batch], seed + i) for i in range(0, count, batch)])
    generated = [analyse(clip) for clip in clips]
    table = {"generated": score(generated, scenes), "generated, other prompt (floor)": score(generated, shifted(scenes))}
    if reconstruct is not None:
        real = render(scenes, num_frames=num_frames, size=size)
        table = {"real clips": judge(real, scenes), "reconstructed by the VAE (ceiling)": judge(reconstruct(real), scenes), **table}
    return table, clips, prompts


def as_markdown(table: dict[str, dict[str, float]]) -> str:
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row, values in table.items():
        lines.append(f"| {row} | " + " | ".join(f"{values[c]:.2f}" for c in COLUMNS) + " |")
    return "\n".join(lines)


def pipeline_generator(pipe, **settings) -> Callable[[list[str], int], Tensor]:
    """Adapts a HunyuanVideoPipeline: prompts and a first seed to uint8 clips, seed + i for the i-th prompt."""

    def generate(prompts: list[str], seed: int) -> Tensor:
        out = pipe(prompts, seed=[seed + i for i in range(len(prompts))], output_type="np", **settings)
        return torch.from_numpy(out.frames)

    return generate

