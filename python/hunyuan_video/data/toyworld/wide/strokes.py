"""The wide world drawn in lines: colored pencil on paper. Outlines, edges of fills, a few lines of the background."""

import math

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.geometry import horizon_depth, star_light

PAPER = (0.93, 0.91, 0.86)
_PENCIL = (0.30, 0.30, 0.36)  # of what has no color of its own
_HALF = 0.75  # half the width of an outline, world units
_DARKER = 0.8  # pencils are darker than paint


def share(
    distance: Tensor,  # [...] to the outline, world units, negative inside
    second: Tensor,  # [...] share of the second tone that paint would have
    unit: float,  # side of a pixel in world units
) -> Tensor:
    """Share of paper, the second tone of a thing drawn in lines: none on its outline and where its tones meet. [...]"""
    outline = (0.5 + (_HALF + distance) / unit).clamp(0.0, 1.0)  # the outer half of the line is the background's
    edges = (1.0 - (2.0 * second - 1.0).square()).clamp(0.0, 1.0)
    return 1.0 - torch.maximum(outline, edges)


def paints(color: str, light: str) -> list[tuple[float, float]]:
    """The pencil's color and the paper under a light: (pencil, paper) of each channel."""
    rows = zip(words.COLORS[color], PAPER, words.TINTS[light], strict=True)
    return [(tint * _DARKER * value, tint * paper) for value, paper, tint in rows]


def background(
    kind: str,
    color: str,
    x: Tensor,  # [...] world coordinates
    y: Tensor,  # [...]
    phases: tuple[float, float, float, float],
) -> list[Tensor]:
    """The three channels of a background by day, before the light, as `geometry.background`: paper with lines."""
    first, second, third, _ = phases
    pencil = words.BACKGROUND_COLORS[color][1] if color else _PENCIL
    if kind == "landscape":
        ink = torch.sigmoid(4.0 * (0.6 - horizon_depth(x, y, first, second).abs()))
    elif kind == "starry":
        ink = torch.sigmoid(18.0 * (star_light(x, y, first, second) - 0.45))
    elif kind == "checkered":
        away = torch.minimum(*(torch.sin(w * (math.pi / 10.0) + p).abs() for w, p in ((x, second), (y, third))))
        ink = torch.sigmoid(4.0 * (0.5 - away * (10.0 / math.pi)))
    elif kind == "gradient":  # hatching, denser to one side
        tone = (0.5 - (x * math.cos(first) + y * math.sin(first)) / 80.0).clamp(0.0, 1.0)
        ink = 0.6 * torch.sigmoid(6.0 * (torch.sin((x + y) * (math.pi / 4.0)) - 1.0 + tone))
    else:
        ink = torch.zeros_like(x)
    return [paper + (dark - paper) * ink for paper, dark in zip(PAPER, pencil, strict=True)]
