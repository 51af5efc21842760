"""Does the video follow its prompt? Judged on toyworld prompts by an analyser that sees only pixels.

The table has four rows: the analyser on real clips, on the VAE's reconstructions of them (the ceiling of any sampler),
on generated clips, and on generated clips judged against somebody else's prompt (the floor).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hunyuan_video.data.toyworld import WORLDS, WideScene, caption, hits, judge_clip, render, score
from hunyuan_video.data.toyworld.scene import AnyScene
from hunyuan_video.data.toyworld.wide.captions import COMPLETE_FORMS
from hunyuan_video.data.toyworld.wide.score import COLUMNS as WIDE_COLUMNS
from hunyuan_video.evaluation.intervals import wilson
from hunyuan_video.media.pixels import to_frames, to_unit
from hunyuan_video.phases import tell

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE
    from hunyuan_video.sampling.pipeline import HunyuanVideoPipeline

COLUMNS = ("color", "shape", "motion", "direction", "camera", "camera_moving", "all")


def attributes(scene: AnyScene) -> tuple:
    """Attributes of a scene that a caption states; details (position, tint, phases) are left out."""
    return tuple(scene.attributes().values())


def held_out_prompts(
    world: str, count: int, seed: int = 4242, *, trained_on: dict[str, int] | None = None
) -> tuple[list[AnyScene], list[str]]:
    """Scenes of a seed that training does not use, and one caption each.

    trained_on: seed and clips of the training. With it, only combinations of attributes that no training clip showed.
    """
    seen = set()
    if trained_on is not None:
        seen = {attributes(WORLDS[world].scene(i, seed=trained_on["seed"])) for i in range(trained_on["clips"])}
    scenes: list[AnyScene] = []
    index = 0
    while len(scenes) < count:
        scene = WORLDS[world].scene(index, seed=seed)
        index += 1
        if attributes(scene) not in seen:
            scenes.append(scene)
    return scenes, [complete_caption(scene, random.Random(f"{seed}/{i}")) for i, scene in enumerate(scenes)]


def complete_caption(scene: AnyScene, rng: random.Random) -> str:
    """A caption to be judged by; of a wide scene one that leaves nothing out but the usual."""
    form = rng.choice(COMPLETE_FORMS) if isinstance(scene, WideScene) else None
    return caption(scene, rng=rng, form=form).text


def judge(clips: Tensor, scenes: Sequence[AnyScene]) -> dict[str, float]:  # uint8 [N, F, H, W, 3]
    """Fractions of clips that show what their scene asks for, by the columns of `data.toyworld.hits`."""
    return score([judge_clip(clip, scene) for clip, scene in zip(clips, scenes, strict=True)], scenes)


def paired_difference(first: list[bool], second: list[bool]) -> tuple[float, float]:
    """Mean of first - second over the same prompts, and its standard error (0 for a single prompt)."""
    differences = torch.tensor(first, dtype=torch.float64, device="cpu") - torch.tensor(
        second, dtype=torch.float64, device="cpu"
    )
    error = (
        differences.std() / len(differences) ** 0.5
        if len(differences) > 1
        else torch.zeros((), dtype=torch.float32, device="cpu")
    )
    return differences.mean().item(), error.item()


def shifted(scenes: list[AnyScene]) -> list[AnyScene]:
    """Every clip gets the scene of another prompt: what a model that ignores its prompt would score."""
    return scenes[1:] + scenes[:1]


class Following(NamedTuple):
    """Result of `prompt_following`."""

    table: dict[str, dict[str, float]]  # row -> column -> fraction
    clips: Tensor  # uint8 [N, F, H, W, 3], generated
    prompts: list[str]
    real: Tensor | None = None  # of the same scenes, where a VAE was given
    reconstructed: Tensor | None = None  # those through the VAE
    counts: dict[str, int] = {}  # column -> how many clips it concerns


def prompt_following(
    generate: Callable[..., Tensor],  # (prompts, first seed), with images and those -> uint8 [N, F, H, W, 3]
    world: str,
    count: int,
    *,
    images: bool = False,
    reconstruct: Callable[[Tensor], Tensor] | None = None,  # uint8 [N, F, H, W, 3] -> the same, through the VAE
    size: int | tuple[int, int] = 64,
    num_frames: int = 17,
    seed: int = 4242,
    batch: int = 20,
    trained_on: dict[str, int] | None = None,
) -> Following:
    """Table and clips of `count` held-out prompts of a world; size and num_frames must be those of what is generated.

    images: for image-to-video; `generate` is also given the scenes' first frames, uint8 [N, H, W, 3].
    """
    scenes, prompts = held_out_prompts(world, count, seed, trained_on=trained_on)
    clips = []
    for i in range(0, count, batch):
        shown = (render(scenes[i : i + batch], num_frames=num_frames, size=size)[:, 0],) if images else ()
        clips.append(generate(prompts[i : i + batch], seed + i, *shown))
        tell("evaluating", min(i + batch, count), count)
    made = torch.cat(clips)
    generated = [judge_clip(clip, scene) for clip, scene in zip(made, scenes, strict=True)]
    table = {
        "generated": score(generated, scenes),
        **_by_things(generated, scenes),
        "generated, other prompt (floor)": score(generated, shifted(scenes)),
    }
    counts = {name: len(column) for name, column in hits(generated, scenes).items()}
    if reconstruct is None:
        return Following(table, made, prompts, counts=counts)
    real = render(scenes, num_frames=num_frames, size=size)
    reconstructed = reconstruct(real)
    ceiling = {
        "real clips": judge(real, scenes),
        "reconstructed by the VAE (ceiling)": judge(reconstructed, scenes),
    }
    return Following({**ceiling, **table}, made, prompts, real, reconstructed, counts)


def _by_things(judgements: list, scenes: list[AnyScene]) -> dict[str, dict[str, float]]:
    """Rows of the clips with one thing and of those with two, in a world that has both."""
    rows = {}
    for name, things in (("generated, one thing", 1), ("generated, two things", 2)):
        which = [i for i, scene in enumerate(scenes) if isinstance(scene, WideScene) and len(scene.things) == things]
        if which:
            shares = score([judgements[i] for i in which], [scenes[i] for i in which])
            rows[name] = {column: share for column, share in shares.items() if not math.isnan(share)}
    return rows


def intervals(shares: dict[str, float], counts: dict[str, int]) -> dict[str, tuple[float, float]]:
    """95 % intervals of the shares of a row, by column."""
    return {name: wilson(shares[name], counts[name]) for name in counts if counts[name] and name in shares}


def as_markdown(table: dict[str, dict[str, float]], counts: dict[str, int] | None = None) -> str:
    """The table; with `counts`, a row of the intervals of "generated"."""
    first = next(iter(table.values()))
    columns = [name for name in dict.fromkeys((*COLUMNS, *WIDE_COLUMNS)) if name in first]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, values in table.items():
        lines.append(f"| {row} | " + " | ".join(f"{values[c]:.2f}" if c in values else "" for c in columns) + " |")
    if counts:
        ranges = intervals(table["generated"], counts)
        cells = (f"{ranges[c][0]:.2f} to {ranges[c][1]:.2f}" if c in ranges else "" for c in columns)
        lines.append("| generated, 95 % interval | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pipeline_generator(pipe: HunyuanVideoPipeline, **settings: Any) -> Callable[..., Tensor]:
    """Adapts a HunyuanVideoPipeline: prompts, a first seed (seed + i for the i-th prompt) and images to uint8 clips."""

    def generate(prompts: list[str], seed: int, images: Tensor | None = None) -> Tensor:
        seeds = [seed + i for i in range(len(prompts))]
        given: dict[str, Any] = {} if images is None else {"image": list(images)}
        out = pipe(prompts, seed=seeds, output_type="np", batch_size=len(prompts), **given, **settings)
        return torch.from_numpy(out.frames)

    return generate


def reconstruction(vae: CausalVAE, batch: int = 8) -> Callable[[Tensor], Tensor]:
    """uint8 clips [N, F, H, W, 3] through encoder (posterior mode) and decoder."""

    @torch.no_grad()
    def reconstruct(frames: Tensor) -> Tensor:
        weight = next(vae.parameters())
        parts = []
        for part in frames.split(batch):
            video = to_unit(part).to(weight.device, weight.dtype)
            parts.append(to_frames(vae.decode(vae.encode(video).mode())).cpu())
        return torch.cat(parts)

    return reconstruct


def psnr(a: Tensor, b: Tensor) -> Tensor:  # uint8 [N, F, H, W, 3] each -> [N] dB
    """10 log10(255^2 / mean squared error) of each clip."""
    error = torch.stack([(x.float() - y.float()).square().mean() for x, y in zip(a, b, strict=True)])
    return 10 * torch.log10(255.0**2 / error.clamp(min=1e-3))


def vae_psnr(
    reconstruct: Callable[[Tensor], Tensor],
    world: str,
    count: int,
    *,
    seed: int = 4242,
    size: int | tuple[int, int] = 64,
    num_frames: int = 17,
) -> dict[str, float]:
    """Mean, worst and best PSNR of held-out clips."""
    real = render(WORLDS[world].scenes(count, seed=seed), num_frames=num_frames, size=size)
    values = psnr(reconstruct(real), real)
    return {"mean": values.mean().item(), "worst": values.min().item(), "best": values.max().item()}
