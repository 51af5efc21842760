"""Motion and outline of a clip's object, with the camera's motion undone."""

import math
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.data.toyworld.geometry import apply, signed_distance, star_distance
from hunyuan_video.data.toyworld.vocabulary import DIRECTIONS, SHAPES

# Thresholds half-way (in the logarithm for areas) between a still object and the renderer's own motion.
_MIN_WAY = 11.0  # units; the renderer goes 26 to 32
_GROWTH = 1.9  # area ratio; the renderer's is 7.8
_MIN_JUMP = 12.0  # units; the renderer jumps 26
_JUMP_LIKENESS = 0.7
_MIN_TURN = math.radians(50.0)  # the renderer turns 150 degrees
_LOOKS = 9
_GRID = 25  # points along each side of an outline
_REACH = 1.5  # half the side of an outline's square, in radii
_BLURS = (0.06, 0.16, 0.3)  # how far an outline may be blurred, standard deviation in radii
# Decoders fill the notches of a small star before they round its five tips: such a star is still no circle.
_WORN_STAR = "worn star"
_WORN_NOTCH = 0.68
_SYMMETRY = {"circle": 0, "ring": 0, "square": 90, "plus": 90, "triangle": 120, "star": 72, _WORN_STAR: 72}  # degrees
_ANGLE_STEP = 9  # degrees


@dataclass(frozen=True)
class View:
    """The frames in which the object is seen."""

    cover: Tensor  # [F, h, w] how much of each pixel it covers
    matrices: Tensor  # [F, 3, 3] pixel -> world
    progress: Tensor  # [F]


@dataclass(frozen=True)
class Path:
    displacement: tuple[float, float]  # over the whole clip, from a straight line through all frames
    growth: float  # area at the end over that at the start
    jump: float  # height covered, units
    jump_likeness: float  # correlation of the height with that of a bouncing object


@dataclass(frozen=True)
class Outline:
    shape: str
    overlap: float  # intersection over union with the shape, mean over the frames
    turn: float  # radians over the clip


def follow(view: View) -> Path:
    """Path of the object in the world, and the change of its area."""
    x, y, area = _world_places(view)
    line = view.progress - view.progress.mean()
    slope = line / line.square().sum().clamp(min=1e-9)
    height = y - y.mean()
    jump = torch.sin(2.0 * math.pi * view.progress).abs()
    jump = jump - jump.mean()
    scale = (height.square().sum() * jump.square().sum()).sqrt().clamp(min=1e-9)
    return Path(
        displacement=((x * slope).sum().item(), (y * slope).sum().item()),
        growth=math.exp((area.log() * slope).sum().item()),
        jump=(y.max() - y.min()).item(),
        jump_likeness=-((height * jump).sum() / scale).item(),
    )


def find_motion(path: Path, outline: Outline) -> str:
    """The motion's class."""
    if path.jump > _MIN_JUMP and path.jump_likeness > _JUMP_LIKENESS:
        return "bounce"
    if math.hypot(*path.displacement) > _MIN_WAY:
        return max(DIRECTIONS, key=lambda name: _cosine(path.displacement, DIRECTIONS[name]))
    if path.growth > _GROWTH:
        return "grow"
    if path.growth < 1.0 / _GROWTH:
        return "shrink"
    return "rotate" if abs(outline.turn) > _MIN_TURN else "static"


def find_shape(
    view: View,
    opacity: Tensor,  # [F, h, w] the object, as blurred as the clip
) -> Outline:
    """The shape whose outline, turned as it needs to be, covers the object best."""
    looks = _whole_frames(view.cover)
    view = View(opacity[looks], view.matrices[looks], view.progress[looks])
    fits = [_fit(view, shape, blur) for shape in (*SHAPES, _WORN_STAR) for blur in _BLURS]
    best = max(fits, key=lambda outline: outline.overlap)
    return replace(best, shape="star") if best.shape == _WORN_STAR else best


def _cosine(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (a[0] * b[0] + a[1] * b[1]) / (math.hypot(*a) * math.hypot(*b))


def _world_places(view: View) -> tuple[Tensor, Tensor, Tensor]:
    """Center x, y and area of the object in world units. Each [F]."""
    height, width = view.cover.shape[1:]
    area = view.cover.sum((1, 2))
    column = (view.cover.sum(1) * (torch.arange(width, dtype=torch.float32, device="cpu") - (width - 1) / 2.0)).sum(
        1
    ) / area
    row = (view.cover.sum(2) * (torch.arange(height, dtype=torch.float32, device="cpu") - (height - 1) / 2.0)).sum(
        1
    ) / area
    x, y = apply(view.matrices, column, row)
    depth = view.matrices[:, 2, 0] * column + view.matrices[:, 2, 1] * row + view.matrices[:, 2, 2]
    return x, y, area * torch.linalg.det(view.matrices) / depth**3


def _whole_frames(cover: Tensor) -> Tensor:
    """Indices of up to nine frames, those in which the picture's edge cuts the object left out where possible."""
    edges = (cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1])
    whole = (torch.stack([edge.amax(1) for edge in edges]).amax(0) < 0.5).nonzero().flatten()
    if len(whole) < 3:
        whole = torch.arange(len(cover), device="cpu")
    return whole[
        torch.linspace(0, len(whole) - 1, min(_LOOKS, len(whole)), dtype=torch.float32, device="cpu").round().long()
    ]


@dataclass(frozen=True)
class _Template:
    outlines: Tensor  # [A, G, G] the shape at all angles, its brightest point 1
    angles: Tensor  # [A] radians
    grid: Tensor  # [G, G, 2] points around the center of mass, in radii
    area: float  # sum over the upright outline, in square radii


@cache
def _template(shape: str, blur: float) -> _Template:
    line = torch.linspace(-_REACH, _REACH, _GRID, dtype=torch.float32, device="cpu")
    step = 2.0 * _REACH / (_GRID - 1)
    v, u = torch.meshgrid(line, line, indexing="ij")
    symmetry = _SYMMETRY[shape]
    angles = (
        torch.deg2rad(torch.arange(0, symmetry, _ANGLE_STEP, device="cpu").float())
        if symmetry
        else torch.zeros(1, dtype=torch.float32, device="cpu")
    )
    upright = _soft_outline(shape, u, v, step)
    center_u, center_v = (upright * u).sum() / upright.sum(), (upright * v).sum() / upright.sum()
    cos, sin = torch.cos(angles).view(-1, 1, 1), torch.sin(angles).view(-1, 1, 1)
    outlines = _soft_outline(shape, cos * u + sin * v + center_u, cos * v - sin * u + center_v, step)
    outlines = _blurred(outlines, blur / step)
    outlines = outlines / outlines[:1].amax()
    return _Template(outlines, angles, torch.stack([u, v], -1), outlines[0].sum().item() * step * step)


def _soft_outline(shape: str, u: Tensor, v: Tensor, step: float) -> Tensor:
    distance = star_distance(u, v, _WORN_NOTCH) if shape == _WORN_STAR else signed_distance(shape, u, v)
    return (0.5 - distance / step).clamp(0.0, 1.0)


def _blurred(
    pictures: Tensor,  # [A, G, G]
    deviation: float,  # grid steps
) -> Tensor:
    """Gaussian blur: [A, G, G]."""
    place = torch.arange(_GRID, dtype=torch.float32, device="cpu")
    kernel = torch.exp(-0.5 * ((place[:, None] - place) / deviation).square())
    kernel = kernel / kernel[_GRID // 2].sum()
    return kernel @ pictures @ kernel


def _fit(view: View, shape: str, blur: float) -> Outline:
    template = _template(shape, blur)
    x, y, area = _world_places(view)
    radius = (area / template.area).sqrt()
    world = torch.stack([x, y], -1).view(-1, 1, 1, 2) + radius.view(-1, 1, 1, 1) * template.grid
    pixel_x, pixel_y = apply(torch.linalg.inv(view.matrices), world[..., 0], world[..., 1])
    height, width = view.cover.shape[1:]
    points = torch.stack([pixel_x * (2.0 / width), pixel_y * (2.0 / height)], -1)
    seen = F.grid_sample(view.cover[:, None], points, align_corners=False)  # [F, 1, G, G]
    inside = (points.abs().amax(-1) < 1.0).float()[:, None]
    common = (torch.minimum(seen, template.outlines) * inside).sum((2, 3))
    either = (torch.maximum(seen, template.outlines) * inside).sum((2, 3)).clamp(min=1e-6)
    best, place = (common / either).max(1)
    return Outline(shape, best.mean().item(), _turn(template.angles[place], _SYMMETRY[shape], view.progress))


def _turn(
    angles: Tensor,  # [F] radians, known up to the shape's symmetry
    symmetry: int,
    progress: Tensor,  # [F]
) -> float:
    """Turn over the whole clip, if the angle moves by less than half a symmetry from look to look."""
    if not symmetry or len(angles) < 3:
        return 0.0
    period = math.radians(symmetry)
    steps = torch.remainder(angles.diff() + period / 2.0, period) - period / 2.0
    line = progress - progress.mean()
    way = torch.cat([torch.zeros(1, dtype=torch.float32, device="cpu"), steps.cumsum(0)])
    return ((way * line).sum() / line.square().sum().clamp(min=1e-9)).item()
