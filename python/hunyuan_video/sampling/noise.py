"""Initial noise: drawn on the CPU in float32, one generator per video, in full latent order.

So a video's noise depends on its seed only: not on the device, the batch it is in, or the number of ranks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from hunyuan_video.errors import ArgumentError

SEED_LIMIT = 2**64  # what torch.Generator takes, and other programs hand out


def video_seeds(seed: int | Sequence[int] | None, prompts: int, per_prompt: int) -> list[int]:
    """One seed per video, prompt by prompt.

    `seed` s: the i-th video of every prompt gets s + i, after the last seed 0. A list of one seed per prompt: likewise,
    from its own s. A list of one seed per video: used as it is. None: a random seed per video.
    """
    total = prompts * per_prompt
    if seed is None:
        return [random.SystemRandom().randrange(2**31) for _ in range(total)]
    starts = [_checked(seed)] * prompts if not isinstance(seed, (list, tuple)) else [_checked(value) for value in seed]
    if len(starts) == total:
        return starts if isinstance(seed, (list, tuple)) else _following(starts, per_prompt)
    if len(starts) != prompts:
        raise ArgumentError(f"seed has {len(starts)} entries; give one number, {prompts} (prompts) or {total} (videos)")
    return _following(starts, per_prompt)


def _following(starts: list[int], count: int) -> list[int]:
    return [(start + i) % SEED_LIMIT for start in starts for i in range(count)]


def _checked(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ArgumentError(f"seed must be a whole number, got {seed!r}")
    number = int(seed)
    if not 0 <= number < SEED_LIMIT:
        raise ArgumentError(f"seed must be between 0 and 2**64 - 1, got {seed}")
    return number


def seeded_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def given_generators(
    generator: torch.Generator | Sequence[torch.Generator], videos: int
) -> tuple[list[torch.Generator], list[int]]:
    """The caller's generators, one per video (a single one serves all videos in turn), and their initial seeds."""
    chosen = [generator] * videos if isinstance(generator, torch.Generator) else list(generator)
    if len(chosen) != videos:
        raise ArgumentError(f"generator has {len(chosen)} entries for {videos} videos; give one, or one per video")
    for source in chosen:
        if not isinstance(source, torch.Generator) or source.device.type != "cpu":
            raise ArgumentError("generator must be a CPU torch.Generator: noise is drawn on the CPU on every machine")
    return chosen, [source.initial_seed() for source in chosen]


def draw_noise(
    generators: Sequence[torch.Generator],
    shape: tuple[int, int, int, int],  # (C, T, h, w) of one video
) -> Tensor:
    """Standard normal noise [N, C, T, h, w], float32 on the CPU."""
    return torch.cat(
        [torch.randn((1, *shape), generator=generator, dtype=torch.float32, device="cpu") for generator in generators]
    )
