"""Motion of an object, from its places in the world and how it turns and grows."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.wide import vocabulary as words

_REACH = 4.5  # units: what stays within goes nowhere
_TURN = 25.0  # degrees, of a rotating object
_GROWTH = math.log(1.18)  # of the radius
_STEP = 1.2  # number of hops: a guess must fit this much better than a simpler one


@dataclass(frozen=True)
class Motion:
    name: str
    speed: str
    displacement: tuple[float, float] = (0.0, 0.0)


def find_motion(
    progress: Tensor,  # [K]
    places: Tensor,  # [K, n, 3] x, y, area of the objects of a thing, in the world
    turn: float,  # degrees over the clip
    wobble: float = 0.0,  # units that turning, or a shaking camera, may move the places by
) -> Motion:
    """Motion and speed of a thing; its objects all do the same."""
    if len(progress) < 3:
        return Motion("rest", "normal")
    center = progress - progress.mean()
    slope = center / center.square().sum()
    growth = (places[..., 2].log() * slope[:, None]).sum(0).mean().item() / 2.0
    paths = places[..., :2]
    reach = (paths.amax(0) - paths.amin(0)).norm(dim=-1).mean().item()
    if reach < _REACH + wobble:
        if abs(growth) > _GROWTH:
            return Motion("grow" if growth > 0 else "shrink", _nearest_log(math.exp(abs(growth)), words.GROWTHS))
        if abs(turn) > _TURN:
            return Motion("rotate", _between(abs(turn), words.TURNS))
        return Motion("rest", "normal")
    straight, (way_x, way_y) = _straight(progress, paths)
    bounced, hops = _hops(progress, paths)
    circled, pace = _circle(progress, paths)
    if bounced < straight and bounced <= circled:
        return Motion("bounce", next(speed for speed, number in words.HOPS.items() if number == hops))
    if circled < straight:
        return Motion("orbit", _between(math.degrees(abs(pace)), words.ORBITS))
    side = max(words.DIRECTIONS, key=lambda key: _cosine((way_x, way_y), words.DIRECTIONS[key]))
    unit = math.hypot(*words.DIRECTIONS[side])
    return Motion(side, _between(math.hypot(way_x, way_y) / unit, words.WAYS), (way_x, way_y))


def _straight(progress: Tensor, paths: Tensor) -> tuple[float, tuple[float, float]]:
    center = (progress - progress.mean())[:, None, None]
    way = (paths * center).sum(0) / center.square().sum()  # [n, 2]
    left = paths - paths.mean(0) - center * way
    return left.square().mean().item(), tuple(way.mean(0).tolist())


def _hops(progress: Tensor, paths: Tensor) -> tuple[float, int]:
    best = (math.inf, 1)
    across = (paths[..., 0] - paths[..., 0].mean(0)).square().mean()
    for hops in words.HOPS.values():
        wave = torch.sin(hops * math.pi * progress).abs()
        wave = (wave - wave.mean())[:, None]
        height = paths[..., 1] - paths[..., 1].mean(0)
        size = ((height * wave).sum(0) / wave.square().sum()).clamp(max=0.0)
        left = ((height - size * wave).square().mean() + across) / 2.0
        best = min(best, (left.item(), hops))
    return best


def _circle(progress: Tensor, paths: Tensor) -> tuple[float, float]:
    """Around the middle of the world, at an even pace."""
    radius = paths.norm(dim=-1)
    angle = torch.atan2(paths[..., 1], paths[..., 0])
    steps = torch.remainder(angle.diff(dim=0) + math.pi, 2.0 * math.pi) - math.pi
    turned = torch.cat([torch.zeros(1, paths.shape[1]), steps.cumsum(0)])
    center = (progress - progress.mean())[:, None]
    pace = (turned * center).sum(0) / center.square().sum()
    away = turned - turned.mean(0) - center * pace
    mean = radius.mean(0)
    left = (radius - mean).square().mean() + (away * mean).square().mean()
    return (left / 2.0).item(), pace.mean().item()


def _between(value: float, table: dict[str, float]) -> str:
    return min(table, key=lambda name: abs(table[name] - value))


def _nearest_log(value: float, table: dict[str, float]) -> str:
    return min(table, key=lambda name: abs(math.log(table[name]) - math.log(value)))


def _cosine(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (a[0] * b[0] + a[1] * b[1]) / max(math.hypot(*a) * math.hypot(*b), 1e-9)
