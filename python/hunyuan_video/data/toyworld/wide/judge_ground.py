"""Judgement of the background: which background, under which light, and how far each pixel is from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.wide import vocabulary as words

_FAR = 0.15  # distances count up to this when backgrounds are compared: the rest may be objects
_TONE_WEIGHT = 0.10  # every background shows its tones evenly; one that would be all dark is another light's
_INSIDE = 0.06  # a pixel this near belongs to the background
_FLAT = 0.10  # deviation of the tone, of a plain background
_CLOUD = 0.08  # how much clouds lighten or darken a sky
_DIM = 0.2  # of a star's light
_TILT = 0.02  # of the tone that a plane leaves over, of a gradient


@dataclass(frozen=True)
class Ground:
    kind: str
    color: str | None
    light: str
    distance: Tensor  # [F, h, w] of each pixel from what the background could be there, in the units of pixels
    unlit: Tensor  # [F, 3, h, w] the pictures with the light taken away
    behind: Tensor  # [F, 3, h, w] the color that the background could have there, as the picture would show it


def find_ground(pictures: Tensor) -> Ground:  # [F, 3, h, w] in [0, 1]
    """The background that explains most pixels. Its kind is told from tones over the picture."""
    best: tuple[float, Ground, Tensor] | None = None
    for light in words.LIGHTS:
        unlit, scale = _unlit(pictures, light)
        for kind, color in _families(light):
            offset, tone = _nearest(unlit, kind, color)
            distance = (offset * scale).square().sum(1).sqrt()
            score = distance.clamp(max=_FAR).mean().item()
            if kind == "tones":
                inside = distance < _INSIDE
                score += _TONE_WEIGHT * abs((tone * inside).sum() / inside.sum().clamp(min=1) - 0.5).item()
            if best is None or score < best[0]:
                best = score, Ground(kind, color, light, distance, unlit, pictures - offset * scale), tone
    assert best is not None
    _, ground, tone = best
    kind = _tone_kind(tone, ground.distance) if ground.kind == "tones" else ground.kind
    return replace(ground, kind=kind)


def _families(light: str) -> list[tuple[str, str | None]]:
    families: list[tuple[str, str | None]] = [("tones", color) for color in words.BACKGROUND_COLORS]
    families.append(("landscape", None))
    return [*families, ("starry", None)] if light in words.LIGHTS_OF["starry"] else families


def _unlit(pictures: Tensor, light: str) -> tuple[Tensor, Tensor]:
    """The pictures as by day, and how much the light had dimmed each point: [F, 3, h, w], [3, h, w]."""
    height, width = pictures.shape[2:]
    half = min(height, width) / 2.0
    y = ((torch.arange(height) - (height - 1) / 2.0) / half).view(1, -1, 1)
    x = ((torch.arange(width) - (width - 1) / 2.0) / half).view(1, 1, -1)
    corners = 1.0 - words.CORNERS[light] * 0.5 * (x.square() + y.square()).clamp(max=2.0)
    rise = (0.5 + 0.5 * y).clamp(0.0, 1.0).square().expand_as(corners)
    scale = torch.tensor(words.GAINS[light]).view(3, 1, 1) * corners
    return (pictures - torch.tensor(words.GLOWS[light]).view(3, 1, 1) * rise) / scale, scale


def _nearest(unlit: Tensor, kind: str, color: str | None) -> tuple[Tensor, Tensor]:
    """Offset of each pixel from the nearest color of a background, and its tone there: [F, 3, h, w], [F, h, w]."""
    if kind == "tones":
        dark, light = words.BACKGROUND_COLORS[color or ""]
        return _to_segment(unlit, dark, light)
    if kind == "starry":
        # Bright stars count as something in front: they are too small for a thing, and gray things have their color.
        dim = [a + _DIM * b for a, b in zip(words.STARRY, words.STAR, strict=True)]
        return _to_segment(unlit, words.STARRY, dim)
    high, horizon = words.SKY
    far, near = words.GROUND
    sky, tone = _to_segment(unlit, high, horizon)
    sky = sky - sky.mean(1, keepdim=True).clamp(-_CLOUD, _CLOUD)
    land, _ = _to_segment(unlit, far, near, slack=0.2)
    edge, _ = _to_segment(unlit, horizon, far)
    offsets = torch.stack([sky, land, edge])
    nearest = offsets.square().sum(2).argmin(0)  # [F, h, w]
    return offsets.gather(0, nearest[None, :, None].expand(1, *sky.shape))[0], tone


def _to_segment(
    pictures: Tensor,  # [F, 3, h, w]
    start: Sequence[float],
    end: Sequence[float],
    slack: float = 0.05,
) -> tuple[Tensor, Tensor]:
    first, way = torch.tensor(start), torch.tensor(end) - torch.tensor(start)
    offset = pictures - first.view(3, 1, 1)
    tone = (torch.einsum("fchw,c->fhw", offset, way) / way.square().sum()).clamp(-slack, 1.0 + slack)
    return offset - tone[:, None] * way.view(3, 1, 1), tone


def _tone_kind(tone: Tensor, distance: Tensor) -> str:
    """plain, gradient or checkered, from the tones of the pixels that are background."""
    inside = (distance < _INSIDE).float()
    total = inside.sum().clamp(min=1.0)
    mean = (tone * inside).sum() / total
    if ((tone - mean).square() * inside).sum() / total < _FLAT**2:
        return "plain"
    height, width = tone.shape[1:]
    y, x = torch.linspace(-1.0, 1.0, height).view(1, -1, 1), torch.linspace(-1.0, 1.0, width).view(1, 1, -1)
    design = torch.stack([value.expand_as(tone)[inside > 0] for value in (torch.ones(1, 1, 1), x, y)], 1)
    values = tone[inside > 0]
    solution = torch.linalg.lstsq(design, values[:, None]).solution
    left = (values - (design @ solution)[:, 0]).square().mean()
    return "gradient" if left < _TILT else "checkered"
