"""Shapes, textures, object tracks and cameras as functions of world coordinates (64 units = the shorter side, y down).

A camera is a 3x3 matrix per frame that takes a centered pixel position to the world point seen there, so its signs are
those of the camera, and the picture's content moves the other way: "pan left" carries the view to the left, and
everything in the picture moves right.
"""

import math

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.scene import Scene
from hunyuan_video.data.toyworld.vocabulary import DIRECTIONS

PAN = 14.0  # way of a panning camera over the clip
ZOOM = 1.5  # magnification at the end over that at the start
TILT = 0.010  # 1 / distance of the horizon when the camera has tilted all the way
TURN = math.radians(28.0)  # turn of a camera that goes around
SPIN = math.radians(150.0)  # turn of a rotating object, clockwise on the screen


def signed_distance(
    shape: str,
    x: Tensor,  # [...] position relative to the object's middle, in radii
    y: Tensor,  # [...]
) -> Tensor:
    """Distance to the outline of a shape of radius 1: negative inside, about true near the outline. [...]"""
    if shape == "circle":
        return torch.hypot(x, y) - 0.95
    if shape == "ring":
        return (torch.hypot(x, y) - 0.72).abs() - 0.27
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.82
    if shape == "plus":
        x, y = x.abs(), y.abs()
        return torch.minimum(torch.maximum(x - 1.0, y - 0.36), torch.maximum(x - 0.36, y - 1.0))
    if shape == "triangle":
        y = y - 0.12
        slope = 0.877 * x.abs() - 0.48 * y
        return torch.maximum(y - 0.62, slope - 0.56)
    if shape == "star":
        return star_distance(x, y)
    raise ValueError(f"shape is {shape!r}; use one of circle, square, triangle, star, plus, ring")


def star_distance(
    x: Tensor,  # [...]
    y: Tensor,  # [...]
    notch: float = 0.48,
) -> Tensor:
    """signed_distance of a star with five points, the first up; notch: radius of the notches, the tips' is 1.12. [...]

    One edge, from a tip to the next notch, folded around ten times.
    """
    sector = 2.0 * math.pi / 5.0
    angle = (torch.remainder(torch.atan2(x, -y) + sector / 2.0, sector) - sector / 2.0).abs()
    radius = torch.hypot(x, y)
    tip = 1.12
    notch_x, notch_y = notch * math.sin(sector / 2.0), notch * math.cos(sector / 2.0)
    normal_x, normal_y = tip - notch_y, notch_x
    length = math.hypot(normal_x, normal_y)
    return (radius * torch.sin(angle) * normal_x + (radius * torch.cos(angle) - tip) * normal_y) / length


def texture(
    name: str,
    x: Tensor,  # [...] world coordinates
    y: Tensor,  # [...]
    phases: tuple[float, float, float, float],
) -> Tensor:
    """Tone of the background in [0, 1], from its dark to its light tone. [...]

    Periods are 14 to 20 units: coarse enough for a VAE that compresses 8 times, and longer than twice the way a camera
    goes between two looks, so that its direction is seen. Every texture but plain varies along both axes: the motion
    of bare stripes would say nothing about the direction along them.
    """
    first, second, third, _ = phases
    if name == "plain":
        return torch.full_like(x, 0.45)
    if name == "gradient":
        return (0.5 + (x * math.cos(first) + y * math.sin(first)) / 80.0).clamp(0.0, 1.0)
    if name == "striped":
        # Slanted by 30 to 60 degrees, to either side, and slowly fading along the stripe.
        slant = math.copysign(math.radians(45.0 + 15.0 * math.sin(second)), math.sin(first))
        across = x * math.cos(slant) + y * math.sin(slant)
        along = y * math.cos(slant) - x * math.sin(slant)
        stripe = torch.sigmoid(4.0 * torch.sin(across * (2.0 * math.pi / 16.0) + second))
        return stripe * (0.78 + 0.22 * torch.sin(along * (2.0 * math.pi / 28.0) + third))
    if name == "checkered":
        return torch.sigmoid(7.0 * torch.sin(x * (math.pi / 10.0) + second) * torch.sin(y * (math.pi / 10.0) + third))
    if name == "dotted":
        u = torch.remainder(x + 3.0 * second, 14.0) - 7.0
        v = torch.remainder(y + 3.0 * third, 14.0) - 7.0
        return torch.sigmoid((3.6 - torch.hypot(u, v)) * 1.8)
    if name == "wavy":
        bend = 2.2 * torch.sin(x * (2.0 * math.pi / 30.0) + second)
        return torch.sigmoid(4.0 * torch.sin(y * (2.0 * math.pi / 16.0) + bend + third))
    if name == "cloudy":
        tone = torch.sin(0.17 * x + second) * torch.cos(0.21 * y + third)
        tone = tone + 0.7 * torch.sin(0.29 * x - 0.13 * y + third) + 0.6 * torch.sin(0.31 * y + 0.11 * x + 2.0 * second)
        return (0.5 + 0.33 * tone).clamp(0.0, 1.0)
    raise ValueError(f"texture is {name!r}; use one of plain, gradient, striped, checkered, dotted, wavy, cloudy")


def track(
    scene: Scene,
    progress: Tensor,  # [F] 0 at the start of the clip, 1 at its end
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The object's x, y, radius and angle (radians, clockwise on the screen) in every frame. Each [F]."""
    zero = torch.zeros_like(progress)
    x, y, radius, angle = zero + scene.position[0], zero + scene.position[1], zero + scene.radius, zero
    if scene.motion in DIRECTIONS:
        # Along its way the object passes near the middle, so that it stays in the picture.
        step_x, step_y = DIRECTIONS[scene.motion]
        way = scene.travel * (progress - 0.5)
        if step_x:
            x = step_x * way + 0.25 * scene.position[0]
        if step_y:
            y = step_y * way + 0.25 * scene.position[1]
    elif scene.motion == "grow":
        radius = scene.radius * (0.5 + 0.9 * progress)
    elif scene.motion == "shrink":
        radius = scene.radius * (1.4 - 0.9 * progress)
    elif scene.motion == "rotate":
        angle = SPIN * progress
    elif scene.motion == "bounce":
        # Two jumps from the ground: 26 units high.
        y = 12.0 + 0.2 * scene.position[1] - 26.0 * torch.sin(2.0 * math.pi * progress).abs()
    return x, y, radius, angle


def camera_matrix(
    camera: str,
    progress: Tensor,  # [F]
    phases: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),  # of the handheld shot
    strength: float = 1.0,
) -> Tensor:
    """Matrices that take a centered pixel position (x, y, 1) to the world point seen there. [F, 3, 3]

    pan left: the view goes left, the content right. zoom in: the content grows. tilt up: the camera leans back, so that
    the upper part of the plane recedes. around left: the camera, looking down, goes round to its left; the content
    turns counter-clockwise. handheld: the view shakes, two to three times over the clip. strength scales the motion.
    """
    zero, one = torch.zeros_like(progress), torch.ones_like(progress)
    kind, _, side = camera.partition(" ")
    sign = strength * (-1.0 if side in ("left", "up", "out") else 1.0)
    middle = progress - 0.5
    shift_x, shift_y, scale, turn, lean_x, lean_y = zero, zero, one, zero, zero, zero
    if kind == "pan":
        way = sign * PAN * middle
        shift_x, shift_y = (way, zero) if side in ("left", "right") else (zero, way)
    elif kind == "tilt":
        lean = -sign * TILT * progress
        lean_x, lean_y = (lean, zero) if side in ("left", "right") else (zero, lean)
    elif kind == "zoom":
        scale = ZOOM ** (-sign * middle)
    elif kind == "around":
        turn = -sign * TURN * middle
    elif kind == "handheld":
        shift_x, shift_y = _shake(progress, strength, phases[0], phases[1]), _shake(progress, strength, *phases[2:])
    elif kind != "static":
        raise ValueError(f"camera is {camera!r}; use one of the paper's classes, such as 'static shot' or 'pan left'")
    cos, sin = scale * torch.cos(turn), scale * torch.sin(turn)
    rows = (cos, -sin, shift_x, sin, cos, shift_y, lean_x, lean_y, one)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _shake(progress: Tensor, strength: float, first: float, second: float) -> Tensor:
    slow = 2.2 * torch.sin(2.0 * math.pi * 2.1 * progress + first)
    return strength * (slow + 1.3 * torch.sin(2.0 * math.pi * 3.2 * progress + second))


def apply(
    matrices: Tensor,  # [F, 3, 3]
    x: Tensor,  # [F or 1, ...]
    y: Tensor,  # [F or 1, ...]
) -> tuple[Tensor, Tensor]:
    """Takes points through the matrices, frame by frame: two tensors [F, ...]."""
    m = matrices.reshape(-1, 9, *([1] * (x.ndim - 1)))
    depth = m[:, 6] * x + m[:, 7] * y + m[:, 8]
    return (m[:, 0] * x + m[:, 1] * y + m[:, 2]) / depth, (m[:, 3] * x + m[:, 4] * y + m[:, 5]) / depth
