"""Places of the objects of a wide scene in every frame."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.geometry import EXTENT
from hunyuan_video.data.toyworld.wide.scene import Thing, WideScene


@dataclass(frozen=True)
class Track:
    """One object: which thing it belongs to, and its place. Each tensor [F], world units and radians."""

    thing: int
    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor  # clockwise on the screen


def tracks(
    scene: WideScene,
    progress: Tensor,  # [F] 0 at the start of the clip, 1 at its end
) -> list[Track]:
    """All objects, those that stand in front last."""
    places = _pair_places(scene) if scene.relation else [_row(scene, 0, (0.0, 0.0), _across(scene.things[0]))]
    tracks = []
    for number, places_of_thing in enumerate(places):
        for member, place in enumerate(places_of_thing):
            tracks.append(_track(scene, number, member, place, progress))
    return tracks[::-1]


def reach(scene: WideScene, number: int) -> float:
    """Reach of the objects of a thing from their middles, half-way through the clip."""
    return scene.radii[number] * EXTENT.get(scene.things[number].shape, 1.0)


def _pair_places(scene: WideScene) -> list[list[tuple[float, float]]]:
    """The middles of all objects half-way through the clip, for each thing."""
    first, second = reach(scene, 0), reach(scene, 1)
    gap, aside = scene.spare[0], 2.0 * scene.spare[1] - 1.0
    if scene.relation == "orbiting":
        return [[(0.0, 0.0)] * scene.things[0].count, [(0.0, 0.0)]]
    if scene.relation == "in front of":
        # To the lower left or right, so that half of the second stays in sight.
        away = 0.55 * first + 0.45 * second + gap
        side = math.copysign(0.8, aside) * away
        return [[(0.5 * side, 0.3 * away)], [(-0.5 * side, -0.3 * away)]]
    if scene.relation == "chasing":
        way_x, way_y = words.DIRECTIONS[scene.things[0].motion]
        length = math.hypot(way_x, way_y)
        axis = (-way_x / length, -way_y / length)  # from the chased to the chaser
    else:
        axis = (-1.0, 0.0) if scene.relation == "left of" else (0.0, -1.0)
    half = (first + second + 3.5 + 3.0 * gap) / 2.0
    side = 2.0 * aside if scene.relation != "chasing" else 0.0
    shift = (second - first) / 2.0  # what both together cover is in the middle
    middle = ((half + shift) * axis[0] - side * axis[1], (half + shift) * axis[1] + side * axis[0])
    other = ((shift - half) * axis[0], (shift - half) * axis[1])
    return [_row(scene, 0, middle, (-axis[1], axis[0])), [other]]


def _row(
    scene: WideScene, number: int, middle: tuple[float, float], axis: tuple[float, float]
) -> list[tuple[float, float]]:
    """Places of a thing's objects side by side along an axis."""
    count = scene.things[number].count
    step = 2.0 * reach(scene, number) + 3.5 + 2.0 * scene.spare[0]
    steps = [step * (member - (count - 1) / 2.0) for member in range(count)]
    return [(middle[0] + axis[0] * s, middle[1] + axis[1] * s) for s in steps]


def _across(thing: Thing) -> tuple[float, float]:
    """The axis along which several objects stand: across their way."""
    return (0.0, 1.0) if thing.motion in ("left", "right") else (1.0, 0.0)


def _track(
    scene: WideScene,
    number: int,
    member: int,
    place: tuple[float, float],
    progress: Tensor,  # [F]
) -> Track:
    thing = scene.things[number]
    free_x, free_y = _freedom(scene)
    zero = torch.zeros_like(progress)
    x, y = zero + place[0] + free_x * scene.offset[0], zero + place[1] + free_y * scene.offset[1]
    radius, angle = zero + scene.radii[number], zero
    if thing.motion in words.DIRECTIONS:
        step_x, step_y = words.DIRECTIONS[thing.motion]
        way = words.WAYS[thing.speed] * (progress - 0.5)
        x, y = x + step_x * way, y + step_y * way
    elif thing.motion in ("grow", "shrink"):
        sign = 1.0 if thing.motion == "grow" else -1.0
        radius = radius * words.GROWTHS[thing.speed] ** (sign * (progress - 0.5))
    elif thing.motion == "rotate":
        angle = math.radians(words.TURNS[thing.speed]) * (progress - 0.5)
    elif thing.motion == "bounce":
        hop = torch.sin(words.HOPS[thing.speed] * math.pi * progress).abs()
        y = y + 12.0 - words.HOP_HEIGHT * hop
    elif thing.motion == "orbit":
        start = 2.0 * math.pi * (scene.spare[2] + member / thing.count)
        turn = start + math.radians(words.ORBITS[thing.speed]) * progress
        away = _orbit_radius(scene, number)
        x, y = zero + away * torch.cos(turn), zero + away * torch.sin(turn)
    return Track(number, x, y, radius, angle)


def _orbit_radius(scene: WideScene, number: int) -> float:
    if scene.relation == "orbiting":
        return reach(scene, 0) + reach(scene, 1) + 2.5 + 2.0 * scene.spare[0]
    count = scene.things[number].count
    apart = 2.0 * reach(scene, number) + 3.0  # between neighbors on the circle
    return max(words.ORBIT_RADIUS, apart / (2.0 * math.sin(math.pi / count)) if count > 1 else 0.0)


def _freedom(scene: WideScene) -> tuple[float, float]:
    """Room to shift everything to the sides and up or down."""
    motions = {thing.motion for thing in scene.things}
    if "orbit" in motions:
        return 0.0, 0.0  # around the middle
    if scene.relation or scene.things[0].count > 1 or motions & {"grow", "shrink"}:
        return 3.0, 3.0
    if "bounce" in motions:
        return 10.0, 2.0
    if motions & set(words.DIRECTIONS):
        step_x, step_y = words.DIRECTIONS[scene.things[0].motion]
        return 10.0 - 8.0 * abs(step_x), 10.0 - 8.0 * abs(step_y)
    return 10.0, 10.0
