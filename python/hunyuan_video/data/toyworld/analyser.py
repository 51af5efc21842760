"""The judge: what a clip shows, from its pixels alone.

It knows the words of the world and how each looks, never the scene a clip was drawn from, and it holds no learned
weights. Steps: tell object from background by brightness; find the camera that makes the background stand still
(analyser_camera); see where the object goes, how it grows and which outline it has once that camera is undone
(analyser_object). Made for decoded, slightly blurred or noisy clips: nothing depends on exact values.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.data.toyworld import analyser_camera, analyser_object
from hunyuan_video.data.toyworld.vocabulary import BACKGROUND_COLORS, OBJECT_COLORS, WORLD_UNITS

_SOFTNESS = 0.12  # half the width of the soft threshold between background and object, at most
_BRIGHTEST_GROUND = 0.46  # no background is brighter, so nothing darker is an object
_MIN_AREA = 12.0  # square units: less is no object
_MIN_VISIBLE = 0.6  # of the frames


@dataclass(frozen=True)
class Judgement:
    """Attributes that the analyser sees. A word is None without an object, and in motions of a single frame."""

    color: str | None
    shape: str | None
    motion: str | None
    camera: str | None
    background: str
    visible: float  # share of the frames in which there is an object
    displacement: tuple[float, float]  # of the object over the clip, world units, x right and y down
    growth: float  # the object's area at the end over that at the start
    outline: float  # how well the shape fits the outline, intersection over union


def analyse(
    frames: Tensor,  # [F, H, W, 3] uint8 RGB
) -> Judgement:
    """Judges one clip of any size and length. TypeError or ValueError for anything but a uint8 RGB clip."""
    if frames.dtype != torch.uint8:
        raise TypeError(f"frames is {frames.dtype}; give uint8 RGB")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.shape[0] < 1:
        raise ValueError(f"frames has shape {tuple(frames.shape)}; give one clip [F, H, W, 3]")
    pictures = _to_world_units(frames)
    cover = _object_cover(pictures)
    area = cover.sum((1, 2))
    seen = area > _MIN_AREA
    visible = seen.float().mean().item()
    progress = (
        torch.linspace(0.0, 1.0, len(frames), dtype=torch.float32, device="cpu")
        if len(frames) > 1
        else torch.tensor([0.5], dtype=torch.float32, device="cpu")
    )

    camera, matrices = None, torch.eye(3, dtype=torch.float32, device="cpu").repeat(len(frames), 1, 1)
    if len(frames) > 1:
        camera, matrices = analyser_camera.find_camera(pictures, cover, progress)
    background = _background(pictures, cover)
    if visible < _MIN_VISIBLE:
        return Judgement(None, None, None, camera, background, visible, (0.0, 0.0), 1.0, 0.0)

    paint = _paint(pictures, cover)
    view = analyser_object.View(cover[seen], matrices[seen], progress[seen])
    outline = analyser_object.find_shape(view, _opacity(pictures, cover, paint)[seen])
    path = analyser_object.follow(view)
    return Judgement(
        color=_color(paint),
        shape=outline.shape,
        motion=analyser_object.find_motion(path, outline) if len(frames) > 1 else None,
        camera=camera,
        background=background,
        visible=visible,
        displacement=path.displacement,
        growth=path.growth,
        outline=outline.overlap,
    )


def _to_world_units(frames: Tensor) -> Tensor:
    """One pixel per world unit, in [0, 1]: [F, 3, h, w]."""
    pictures = frames.permute(0, 3, 1, 2).float() / 255.0
    scale = WORLD_UNITS / min(pictures.shape[2:])
    if scale == 1.0:
        return pictures
    size = [round(side * scale) for side in pictures.shape[2:]]
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)


def _object_cover(pictures: Tensor) -> Tensor:
    """Share of each pixel that the object covers, 0 to 1: [F, h, w].

    The object's largest channel is at least 0.8, the background's at most 0.46; the threshold lies half-way between
    what this clip shows of both, so that a pale object of a blurred clip is still cut at its outline, and is sharp
    enough to leave out the light tone of a dark texture.
    """
    brightness = pictures.amax(1)
    values = brightness.flatten()
    ground, peak = values.median(), torch.quantile(values, 0.997)
    threshold = (0.5 * (ground + peak)).clamp(_BRIGHTEST_GROUND + 0.05, 0.65)
    softness = (threshold - _BRIGHTEST_GROUND).clamp(max=_SOFTNESS)
    return ((brightness - threshold) / (2.0 * softness) + 0.5).clamp(0.0, 1.0)


def _paint(pictures: Tensor, cover: Tensor) -> Tensor:
    """The object's color, from the brighter half of what it covers (a blur mixes the rest with the background): [3]"""
    brightness = pictures.amax(1)
    covered = brightness[cover > 0.5]
    weight = (brightness >= covered.median()).float() * cover
    return (pictures * weight[:, None]).sum((0, 2, 3)) / weight.sum()


def _opacity(
    pictures: Tensor,  # [F, 3, h, w]
    cover: Tensor,  # [F, h, w]
    paint: Tensor,  # [3]
) -> Tensor:
    """Share of the object's color in each pixel near the object, 0 to 1: softer than `cover`, as blurred as the clip.

    [F, h, w]
    """
    near = F.max_pool2d(cover[:, None], 7, 1, 3)[:, 0]
    ground = (pictures * (1.0 - near[:, None])).sum((0, 2, 3)) / (1.0 - near).sum().clamp(min=1.0)
    way = paint - ground
    share = torch.einsum("fchw,c->fhw", pictures - ground.view(3, 1, 1), way) / way.square().sum()
    # A light texture has a small share of the object's color, too.
    return ((share - 0.2) / 0.8).clamp(0.0, 1.0) * near


def _color(paint: Tensor) -> str:
    palette = torch.tensor(list(OBJECT_COLORS.values()), device="cpu")
    return list(OBJECT_COLORS)[int((palette - paint).square().sum(1).argmin())]


def _background(pictures: Tensor, cover: Tensor) -> str:
    """The named background whose line from dark to light tone passes nearest to the mean color."""
    weight = 1.0 - F.max_pool2d(cover[:, None], 5, 1, 2)
    mean = (pictures * weight).sum((0, 2, 3)) / weight.sum().clamp(min=1.0)
    dark, light = torch.tensor(list(BACKGROUND_COLORS.values()), device="cpu").unbind(1)
    way = light - dark
    place = (((mean - dark) * way).sum(1) / way.square().sum(1)).clamp(0.0, 1.0)
    return list(BACKGROUND_COLORS)[int((dark + place[:, None] * way - mean).square().sum(1).argmin())]
