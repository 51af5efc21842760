"""Outlines, fills and backgrounds of the wide world as functions of coordinates (y down)."""

import math

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.geometry import star_distance
from hunyuan_video.data.toyworld.wide import vocabulary as words

EXTENT = {
    "square": 1.2,
    "cross": 1.05,
    "star": 1.12,
    "triangle": 1.29,
    "heart": 1.15,
    "moon": 1.08,
}  # of a shape, in radii; others 1
HORIZON = 9.0  # world units below the middle
_STARS_APART = 16.0
_STRIPE = 7.0  # period of stripes, world units
_DOT = 8.0  # distance of dots


def signed_distance(
    shape: str,
    x: Tensor,  # [...] position relative to the object's middle, in radii
    y: Tensor,  # [...]
) -> Tensor:
    """Distance to the outline of a shape of radius 1: negative inside, true near the outline. [...]"""
    if shape == "circle":
        return torch.hypot(x, y) - 0.95
    if shape == "ring":
        return (torch.hypot(x, y) - 0.70).abs() - 0.28
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.84
    if shape == "cross":
        x, y = x.abs(), y.abs()
        return torch.minimum(torch.maximum(x - 1.0, y - 0.37), torch.maximum(x - 0.37, y - 1.0))
    if shape == "triangle":
        y = y - 0.12
        return torch.maximum(y - 0.66, 0.877 * x.abs() - 0.48 * y - 0.58)
    if shape == "star":
        return star_distance(x, y)
    if shape == "heart":
        return _heart_distance(x, y)
    if shape == "moon":
        # A disc less another one to its right.
        return torch.maximum(torch.hypot(x - 0.12, y) - 1.0, 0.80 - torch.hypot(x - 0.58, y))
    raise ValueError(f"shape is {shape!r}; use one of {', '.join(words.SHAPES)}")


def _heart_distance(x: Tensor, y: Tensor) -> Tensor:
    """Two discs side by side over a square that stands on its corner."""
    x = x.abs()
    root = math.sqrt(0.5)
    along, across = root * (x + y) + 0.06, root * (y - x) + 0.06  # axes of the square's lower right and left edges
    square = torch.maximum((along - 0.14).abs() - 0.60, (across - 0.14).abs() - 0.60)
    lobe = torch.hypot(x - 0.4243, y + 0.3394) - 0.60
    return torch.minimum(square, lobe)


def second_tone(
    fill: str,
    x: Tensor,  # [...] position relative to the object's middle, world units, turned back
    y: Tensor,  # [...]
    distance: Tensor,  # [...] to the outline, world units, negative inside
) -> Tensor:
    """Share of the second tone at each point, in [0, 1]. [...]"""
    if fill == "plain":
        return torch.zeros_like(distance)
    if fill == "striped":
        return torch.sigmoid(5.0 * torch.sin((x + y) * (math.sqrt(0.5) * 2.0 * math.pi / _STRIPE)))
    if fill == "dotted":
        u = torch.remainder(x + _DOT / 2.0, _DOT) - _DOT / 2.0
        v = torch.remainder(y + _DOT / 2.0, _DOT) - _DOT / 2.0
        return torch.sigmoid((2.3 - torch.hypot(u, v)) * 3.0)
    if fill == "outlined":
        return torch.sigmoid((distance + 2.1) * 3.5)
    raise ValueError(f"fill is {fill!r}; use one of {', '.join(words.FILLS)}")


def background(
    kind: str,
    color: str,
    x: Tensor,  # [...] world coordinates
    y: Tensor,  # [...]
    phases: tuple[float, float, float, float],
) -> list[Tensor]:
    """The three channels of a background by day, before the light. Each [...]."""
    first, second, third, _ = phases
    if kind == "landscape":
        return _landscape(x, y, first, second, third)
    if kind == "starry":
        stars = star_light(x, y, first, second)
        return [base + gain * stars for base, gain in zip(words.STARRY, words.STAR, strict=True)]
    if kind == "plain":
        tone = torch.full_like(x, 0.5)
    elif kind == "gradient":
        tone = (0.5 + (x * math.cos(first) + y * math.sin(first)) / 80.0).clamp(0.0, 1.0)
    elif kind == "checkered":
        waves = torch.sin(x * (math.pi / 10.0) + second) * torch.sin(y * (math.pi / 10.0) + third)
        tone = torch.sigmoid(7.0 * waves)
    else:
        raise ValueError(f"background is {kind!r}; use one of {', '.join(words.BACKGROUNDS)}")
    dark, light = words.BACKGROUND_COLORS[color]
    return [low + (high - low) * tone for low, high in zip(dark, light, strict=True)]


def horizon_depth(x: Tensor, y: Tensor, first: float, second: float) -> Tensor:
    """Depth of points below the line of the hills, world units. [...]"""
    hills = 2.6 * torch.sin(x * (2.0 * math.pi / 26.0) + first) + 1.2 * torch.sin(x * (2.0 * math.pi / 15.0) + second)
    return y - HORIZON - hills


def _landscape(x: Tensor, y: Tensor, first: float, second: float, third: float) -> list[Tensor]:
    """Sky with soft clouds over rolling ground with furrows."""
    depth = horizon_depth(x, y, first, second)
    ground = torch.sigmoid(2.2 * depth)
    clouds = torch.sin(x * 0.19 + second) * torch.sin(y * 0.30 + third) + 0.6 * torch.sin(x * 0.33 - y * 0.12 + first)
    height = ((y + 30.0) / 42.0).clamp(0.0, 1.0)
    near = ((depth + 2.0) / 24.0).clamp(0.0, 1.0)
    furrows = 0.16 * torch.sin(x * 0.30 + y * 0.22 + third)
    channels = []
    for high, low, far, close in zip(*words.SKY, *words.GROUND, strict=True):
        sky = high + (low - high) * height + 0.05 * clouds
        land = far + (close - far) * (near + furrows)
        channels.append(sky + (land - sky) * ground)
    return channels


def star_light(x: Tensor, y: Tensor, first: float, second: float) -> Tensor:
    """Soft points, one in each cell of a grid, pushed out of line. [...]"""
    column, row = torch.floor(x / _STARS_APART), torch.floor(y / _STARS_APART)
    shift_x = 4.5 * torch.sin(2.4 * column + 1.7 * row + first)
    shift_y = 4.5 * torch.sin(1.3 * column - 2.9 * row + second)
    u = x - (column + 0.5) * _STARS_APART - shift_x
    v = y - (row + 0.5) * _STARS_APART - shift_y
    bright = 0.75 + 0.25 * torch.sin(5.1 * column + 3.7 * row)
    return bright * torch.exp(-(u.square() + v.square()) / (2.0 * 1.15**2))


def lit(
    channels: list[Tensor],  # three times [F, H, W]
    light: str,
    x: Tensor,  # [1, 1, W] position on the screen, -1 to 1 over the shorter side
    y: Tensor,  # [1, H, 1]
) -> list[Tensor]:
    """A background under a light that belongs to the picture, not to the world: the camera does not move it."""
    corners = 1.0 - words.CORNERS[light] * 0.5 * (x.square() + y.square()).clamp(max=2.0)
    rise = (0.5 + 0.5 * y).clamp(0.0, 1.0).square()
    pairs = zip(channels, words.GAINS[light], words.GLOWS[light], strict=True)
    return [channel * (gain * corners) + glow * rise for channel, gain, glow in pairs]
