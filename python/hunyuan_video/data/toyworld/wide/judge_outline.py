"""Which outline, size and fill an object has, with the camera's motion undone."""

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.data.toyworld.geometry import apply
from hunyuan_video.data.toyworld.vocabulary import WORLD_UNITS
from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.geometry import second_tone, signed_distance
from hunyuan_video.data.toyworld.wide.judge_objects import Found, palette, world_places

_LOOKS = 9
_GRID = 33  # points along each side of an outline
_REACH = 1.6  # half the side of an outline's square, in radii
_BLURS = (0.05, 0.15, 0.28)  # how far an outline may be blurred, standard deviation in radii
_SYMMETRY = {"circle": 0, "ring": 0, "square": 90, "cross": 90, "triangle": 120, "star": 72, "heart": 360, "moon": 360}
_ANGLE_STEP = 9  # degrees
_LIKELY = 3  # shapes that are compared at every blur
_LARGER = 1.7  # area of an object over what may be seen of it
_COMPLETIONS = 10  # times that the hidden part of an object is guessed again
_CORE = 0.7  # units inside the outline, from where on fills are compared


@dataclass(frozen=True)
class Outline:
    shape: str
    size: str
    fill: str
    overlap: float  # intersection over union with the shape, mean over the looks
    frames: Tensor  # [L] the frames that were looked at
    places: Tensor  # [L, 3] x, y and area in them, with what is hidden
    turn: float  # degrees over the clip
    wobble: float  # units: how far the center of mass of the turning shape leaves its middle, to both sides


def find_outline(
    item: Found,
    hidden: Tensor,  # [F, h, w] where something else may hide the thing
    pictures: Tensor,  # [F, 3, h, w]
    matrices: Tensor,  # [F, 3, 3] pixel -> world
    progress: Tensor,  # [F]
    light: str,
) -> Outline:
    """The outline of a thing, from its first object in up to nine frames, the whole ones where there are enough."""
    rows = _looks(item)
    frames = item.frames[rows]
    places = world_places(item, matrices)[rows, 0]
    views = _first_alone(item, rows), hidden[frames], matrices[frames], places
    likely = sorted(words.SHAPES, key=lambda name: -_fit(*views, name, _BLURS[1])[0])[:_LIKELY]
    fits = {(name, blur): _fit(*views, name, blur) for name in likely for blur in _BLURS}
    if hidden.any():  # from what is seen of it, a larger object may be meant as well
        larger = places * torch.tensor([1.0, 1.0, _LARGER])
        fits |= {(name, 0.0): _fit(*views[:3], larger, name, _BLURS[0]) for name in words.SHAPES}
    (shape, _), (overlap, angles, radius, places) = max(fits.items(), key=lambda item: item[1][0])
    middle = radius.log().mean().exp().item()
    size = min(words.SIZES, key=lambda name: abs(math.log(words.SIZES[name] / middle)))
    fill, fill_angles = _fill(
        item, pictures[frames], matrices[frames], places, shape, angles, radius, hidden[frames], light
    )
    turned = angles if _SYMMETRY[shape] else fill_angles
    symmetry = _SYMMETRY[shape] or {"striped": 180, "dotted": 90}.get(fill, 0)
    turn = _turn(turned, symmetry, progress[frames])
    away = 2.0 * math.hypot(*_template(shape, _BLURS[0]).center) * middle
    return Outline(shape, size, fill, overlap, frames, places, turn, away if abs(turn) > 20.0 else 0.0)


def owned_overlap(first: Found, second: Found, matrices: Tensor) -> tuple[float, float]:
    """Share of the overlap of both outlines that each of two things shows.

    The outlines are those of what is seen; where they do not overlap, those completed behind the other.
    """
    common = sorted(set(first.frames.tolist()) & set(second.frames.tolist()))
    if not common:
        return 0.0, 0.0
    frames = torch.tensor(common)[torch.linspace(0, len(common) - 1, min(5, len(common))).round().long()]
    none = torch.zeros_like(first.opacity)
    for hidden in ((none, none), (second.opacity, first.opacity)):
        covers = [_cover(item, by, frames, matrices) for item, by in zip((first, second), hidden, strict=True)]
        both = (covers[0] & covers[1]).float()
        if both.sum() >= 3 * len(frames):
            break
    return (first.opacity[frames] * both).sum().item(), (second.opacity[frames] * both).sum().item()


def _cover(item: Found, hidden: Tensor, frames: Tensor, matrices: Tensor) -> Tensor:
    """The pixels well inside the outline that fits a thing best: bool [L, h, w]."""
    rows = torch.tensor([item.frames.tolist().index(frame) for frame in frames.tolist()])
    views = item.opacity[frames], hidden[frames], matrices[frames], world_places(item, matrices)[rows, 0]
    fits = {shape: _fit(*views, shape, _BLURS[0]) for shape in words.SHAPES}
    shape = max(fits, key=lambda name: fits[name][0])
    height, width = item.opacity.shape[1:]
    unit = WORLD_UNITS / min(height, width)
    y, x = (unit * (torch.arange(n) - (n - 1) / 2.0) for n in (height, width))
    return _inside(shape, *fits[shape][1:], *apply(matrices[frames], x.view(1, 1, -1), y.view(1, -1, 1)))


def _inside(shape: str, angles: Tensor, radius: Tensor, places: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Points at which a fitted shape lies well inside its outline: bool [L, h, w] for points of the world."""
    cx, cy = _template(shape, _BLURS[0]).center
    u, v = ((w - places[:, i].view(-1, 1, 1)) / radius.view(-1, 1, 1) for i, w in enumerate((x, y)))
    cos, sin = torch.cos(angles).view(-1, 1, 1), torch.sin(angles).view(-1, 1, 1)
    return signed_distance(shape, cos * u + sin * v + cx, cos * v - sin * u + cy) < -0.05


def _looks(item: Found) -> Tensor:
    """Rows of up to nine frames, those in which the picture's edge cuts the thing left out where possible."""
    rows = item.whole.nonzero().flatten()
    if len(rows) < 3:
        rows = torch.arange(len(item.frames))
    return rows[torch.linspace(0, len(rows) - 1, min(_LOOKS, len(rows))).round().long()]


def _first_alone(item: Found, rows: Tensor) -> Tensor:
    """The opacity in frames of a thing, without what is nearer to another of its objects: [L, h, w]."""
    opacity = item.opacity[item.frames[rows]]
    if item.count == 1:
        return opacity
    height, width = opacity.shape[1:]
    unit = WORLD_UNITS / min(height, width)
    y, x = (unit * (torch.arange(n) - (n - 1) / 2.0) for n in (height, width))
    away_x = x.view(1, 1, 1, -1) - item.places[rows, :, 0, None, None]
    away_y = y.view(1, 1, -1, 1) - item.places[rows, :, 1, None, None]
    return opacity * ((away_x.square() + away_y.square()).argmin(1) == 0)


@dataclass(frozen=True)
class _Template:
    outlines: Tensor  # [A, G, G] the shape at all angles
    angles: Tensor  # [A] radians
    area: float  # of the upright outline, in square radii
    center: tuple[float, float]  # its center of mass, in radii


@cache
def _template(shape: str, blur: float) -> _Template:
    line = torch.linspace(-_REACH, _REACH, _GRID)
    step = 2.0 * _REACH / (_GRID - 1)
    v, u = torch.meshgrid(line, line, indexing="ij")
    symmetry = _SYMMETRY[shape]
    angles = torch.deg2rad(torch.arange(0, symmetry, _ANGLE_STEP).float()) if symmetry else torch.zeros(1)
    upright = (0.5 - signed_distance(shape, u, v) / step).clamp(0.0, 1.0)
    center_u, center_v = ((upright * side).sum() / upright.sum() for side in (u, v))
    cos, sin = torch.cos(angles).view(-1, 1, 1), torch.sin(angles).view(-1, 1, 1)
    distance = signed_distance(shape, cos * u + sin * v + center_u, cos * v - sin * u + center_v)
    outlines = (0.5 - distance / step).clamp(0.0, 1.0)
    place = torch.arange(_GRID, dtype=torch.float32)
    kernel = torch.exp(-0.5 * ((place[:, None] - place) / (blur / step)).square())
    kernel = kernel / kernel[_GRID // 2].sum()
    outlines = kernel @ outlines @ kernel
    area = upright.sum().item() * step * step
    return _Template(outlines / outlines[:1].amax(), angles, area, (center_u.item(), center_v.item()))


def _fit(
    opacity: Tensor,  # [L, h, w]
    hidden: Tensor,  # [L, h, w]
    matrices: Tensor,  # [L, 3, 3]
    places: Tensor,  # [L, 3] x, y, area of what is seen
    shape: str,
    blur: float,
) -> tuple[float, Tensor, Tensor, Tensor]:
    """Overlap, and of each look angle (radians), radius (world units), and x, y and area of the whole object.

    Where the object is hidden it is taken to be as the shape says, and its middle and area are found again.
    """
    template = _template(shape, blur)
    line = torch.linspace(-_REACH, _REACH, _GRID)
    layers = torch.stack([opacity, hidden], 1)
    for again in range(_COMPLETIONS if hidden.any() else 0, -1, -1):
        radius = (places[:, 2] / template.area).sqrt().view(-1, 1, 1)
        x = places[:, 0].view(-1, 1, 1) + radius * line.view(1, 1, -1)
        y = places[:, 1].view(-1, 1, 1) + radius * line.view(1, -1, 1)
        seen, inside = sample(layers, matrices, x, y)
        covered = seen[:, 1] > 0.5
        usable = (inside * ~covered)[:, None]
        common = (torch.minimum(seen[:, :1], template.outlines) * usable).sum((2, 3))
        either = (torch.maximum(seen[:, :1], template.outlines) * usable).sum((2, 3)).clamp(min=1e-6)
        best, place = (common / either).max(1)
        if again:
            places = _completed(torch.where(covered, template.outlines[place], seen[:, 0]), x, y)
    return best.mean().item(), template.angles[place], radius.flatten(), places


def _completed(cover: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x, y and area of what covers a square grid [L, G, G] of world points: [L, 3]."""
    total = cover.sum((1, 2)).clamp(min=1e-6)
    step = x[:, 0, 1] - x[:, 0, 0]
    columns, rows = (cover * x).sum((1, 2)) / total, (cover * y).sum((1, 2)) / total
    return torch.stack([columns, rows, total * step.square()], 1)


def sample(
    layers: Tensor,  # [L, C, h, w]
    matrices: Tensor,  # [L, 3, 3] pixel -> world, both in world units
    x: Tensor,  # [L, G, G] world
    y: Tensor,
) -> tuple[Tensor, Tensor]:
    """The layers at points of the world, and whether the points are in the picture: [L, C, G, G], [L, G, G]."""
    height, width = layers.shape[2:]
    half = WORLD_UNITS / 2.0 / min(height, width)  # half a pixel's side in world units
    pixel_x, pixel_y = apply(torch.linalg.inv(matrices), x.expand(-1, y.shape[1], -1), y.expand(-1, -1, x.shape[2]))
    points = torch.stack([pixel_x / (width * half), pixel_y / (height * half)], -1)
    seen = F.grid_sample(layers, points, mode="bilinear", align_corners=False)
    return seen, (points.abs().amax(-1) < 1.0).float()


def _fill(
    item: Found,
    pictures: Tensor,  # [L, 3, h, w]
    matrices: Tensor,  # [L, 3, 3]
    places: Tensor,  # [L, 3]
    shape: str,
    angles: Tensor,  # [L]
    radius: Tensor,  # [L]
    hidden: Tensor,  # [L, h, w]
    light: str,
) -> tuple[str, Tensor]:
    """The fill whose pattern is nearest to the share of the second tone, and the angle at which it is in each look."""
    first, second = palette(light)[:, list(words.COLORS).index(item.color)]
    way = second - first
    middle = radius.log().mean().exp()
    cx, cy = _template(shape, _BLURS[0]).center
    line = torch.linspace(-1.05, 1.05, 41) * middle  # the object's own coordinates, world units
    v, u = torch.meshgrid(line, line, indexing="ij")
    distance = signed_distance(shape, u / middle, v / middle) * middle
    core = (distance < -_CORE).float()
    symmetry = _SYMMETRY[shape]
    if symmetry:
        offsets = torch.deg2rad(torch.arange(0, 360, symmetry).float())
    else:
        offsets = torch.deg2rad(torch.arange(0, 180, _ANGLE_STEP).float())
    errors: dict[str, list[Tensor]] = {fill: [] for fill in words.FILLS}
    patterns = {fill: _softened(second_tone(fill, u, v, distance)) for fill in words.FILLS}
    for offset in offsets:
        turn = angles + offset
        cos, sin = torch.cos(turn).view(-1, 1, 1), torch.sin(turn).view(-1, 1, 1)
        grown = (radius / middle).view(-1, 1, 1)
        # The place is that of the center of mass; (cx, cy) takes it back to the middle of the shape.
        du, dv = u - cx * middle, v - cy * middle
        x = places[:, 0].view(-1, 1, 1) + grown * (cos * du - sin * dv)
        y = places[:, 1].view(-1, 1, 1) + grown * (sin * du + cos * dv)
        layers, inside = sample(torch.cat([pictures, hidden[:, None]], 1), matrices, x, y)
        seen, inside = layers[:, :3], inside * (layers[:, 3] < 0.5)
        share = (torch.einsum("lcgh,c->lgh", seen - first.view(3, 1, 1), way) / way.square().sum()).clamp(-0.2, 1.2)
        weight = core * inside
        for fill, pattern in patterns.items():
            error = ((share - pattern).square() * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1.0)
            errors[fill].append(error)
    tables = {fill: torch.stack(rows, 1).min(1) for fill, rows in errors.items()}
    allowed = [fill for fill in words.FILLS if fill == "plain" or shape in words.FILL_SIZES[fill]]
    fill = min(allowed, key=lambda name: tables[name].values.mean().item())
    return fill, angles + offsets[tables[fill].indices]


def _softened(pattern: Tensor) -> Tensor:  # [G, G]
    return F.avg_pool2d(F.pad(pattern[None, None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0, 0]


def _turn(angles: Tensor, symmetry: int, progress: Tensor) -> float:  # [L] each
    """Degrees turned over the whole clip, if by less than half a symmetry from look to look."""
    if not symmetry or len(angles) < 3:
        return 0.0
    period = math.radians(symmetry)
    steps = torch.remainder(angles.diff() + period / 2.0, period) - period / 2.0
    line = progress - progress.mean()
    way = torch.cat([torch.zeros(1), steps.cumsum(0)])
    return math.degrees(((way * line).sum() / line.square().sum().clamp(min=1e-9)).item())
