"""The judge of the wide world: what a clip shows, from its pixels alone. It holds no learned weights.

It finds the background and its light (judge_ground), the things in front and their colors (judge_objects), the camera
that makes the background stand still, and with that camera undone the outline, fill (judge_outline) and motion
(judge_motion) of each thing, and how two of them stand to each other.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.data.toyworld import analyser_camera
from hunyuan_video.data.toyworld.vocabulary import WORLD_UNITS
from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.judge_ground import Ground, find_ground
from hunyuan_video.data.toyworld.wide.judge_motion import Motion, find_motion
from hunyuan_video.data.toyworld.wide.judge_objects import Found, find_things, world_places
from hunyuan_video.data.toyworld.wide.judge_outline import find_outline, owned_overlap
from hunyuan_video.data.toyworld.wide.scene import LABELS, THING, Thing

_FINEST = 128  # pixels of the shorter side; larger clips are made smaller
_SHAKE = 2.0  # units by which the way of a handheld camera is uncertain
_TOUCH = 4.0  # units: the line along which two things meet that overlap, at least


@dataclass(frozen=True)
class WideJudgement:
    """Attributes that the judge sees. With a relation the first thing stands in it to the second."""

    things: tuple[Thing, ...]
    relation: str | None
    background: str
    background_color: str | None
    light: str
    camera: str | None  # None: a single frame

    def attributes(self) -> dict[str, str | int | None]:
        """Everything by the names of LABELS."""
        labels: dict[str, str | int | None] = dict.fromkeys(LABELS)
        for prefix, thing in zip(("", "other_"), self.things, strict=False):
            labels.update({f"{prefix}{name}": getattr(thing, name) for name in THING})
        place = (self.relation, self.background, self.background_color, self.light, self.camera)
        labels.update(zip(("relation", "background", "background_color", "light", "camera"), place, strict=True))
        return labels


def judge(frames: Tensor) -> WideJudgement:  # [F, H, W, 3] uint8 RGB
    """Judges one clip of any size and length. TypeError or ValueError for anything but a uint8 RGB clip."""
    if frames.dtype != torch.uint8:
        raise TypeError(f"frames is {frames.dtype}; give uint8 RGB")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.shape[0] < 1:
        raise ValueError(f"frames has shape {tuple(frames.shape)}; give one clip [F, H, W, 3]")
    pictures = frames.permute(0, 3, 1, 2).float() / 255.0
    if min(pictures.shape[2:]) > _FINEST:
        pictures = _resized(pictures, _FINEST)
    unit = WORLD_UNITS / min(pictures.shape[2:])
    progress = torch.linspace(0.0, 1.0, len(frames)) if len(frames) > 1 else torch.tensor([0.5])
    ground = find_ground(pictures)
    objects = find_things(pictures, ground, unit)
    camera, matrices = _camera(ground, objects, progress)
    shake = _SHAKE if camera == "handheld shot" else 0.0
    overlapping = len(objects) == 2 and _touching(objects, unit)
    if overlapping:
        objects = _front_first(objects, matrices)
    seen = []
    for number, item in enumerate(objects):
        hidden = objects[0].opacity if overlapping and number == 1 else torch.zeros_like(item.opacity)
        seen.append(_thing(item, hidden, ground, pictures, matrices, progress, shake))
    things, relation = tuple(thing for thing, _ in seen), "in front of" if overlapping else None
    if len(seen) == 2 and not overlapping:
        relation, swapped = _relation(objects, [motion for _, motion in seen], matrices)
        things = things[::-1] if swapped else things
    return WideJudgement(things, relation, ground.kind, ground.color, ground.light, camera)


def _resized(pictures: Tensor, shorter: int) -> Tensor:
    scale = shorter / min(pictures.shape[2:])
    size = [round(side * scale) for side in pictures.shape[2:]]
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)


def _camera(ground: Ground, objects: list[Found], progress: Tensor) -> tuple[str | None, Tensor]:
    still = torch.eye(3).repeat(len(progress), 1, 1)
    if len(progress) < 2:
        return None, still
    if ground.kind in words.UNTEXTURED:
        return "static shot", still
    cover = torch.zeros_like(ground.distance)
    for thing in objects:
        cover = torch.maximum(cover, thing.opacity)
    units = int(WORLD_UNITS)
    small = _resized(torch.cat([ground.unlit, cover[:, None]], 1), units)
    return analyser_camera.find_camera(small[:, :3].clamp(0.0, 1.0), small[:, 3], progress)


def _thing(
    item: Found, hidden: Tensor, ground: Ground, pictures: Tensor, matrices: Tensor, progress: Tensor, shake: float
) -> tuple[Thing, Motion]:
    """A thing of which parts may be hidden, and its motion."""
    outline = find_outline(item, hidden, pictures, matrices, progress, ground.light)
    rows = item.whole.nonzero().flatten()
    if len(rows) < 3:
        rows = torch.arange(len(item.frames))
    frames, places = item.frames[rows], world_places(item, matrices)[rows]
    if hidden.any():
        frames, places = outline.frames, outline.places[:, None]
    motion = find_motion(progress[frames], places, outline.turn, outline.wobble + shake)
    return Thing(outline.shape, item.color, outline.size, outline.fill, motion.name, motion.speed, item.count), motion


def _front_first(objects: list[Found], matrices: Tensor) -> list[Found]:
    """The thing first that is seen where both would be."""
    first, second = owned_overlap(objects[0], objects[1], matrices)
    return objects if first >= second else objects[::-1]


def _relation(objects: list[Found], motions: list[Motion], matrices: Tensor) -> tuple[str, bool]:
    """The relation of two things that do not overlap, and whether it is of the second to the first."""
    for number, motion in enumerate(motions):
        if motion.name == "orbit":
            return "orbiting", number == 1
    middles = [world_places(thing, matrices)[..., :2].mean((0, 1)) for thing in objects]
    way = middles[1] - middles[0]
    going = torch.tensor(motions[0].displacement)
    if motions[0].name == motions[1].name and motions[0].name in words.DIRECTIONS:
        along = (way * going).sum() / (way.norm() * going.norm())
        if abs(along) > 0.75:
            return "chasing", bool(along < 0)
    if abs(way[0]) > abs(way[1]):
        return "left of", bool(way[0] < 0)
    return "above", bool(way[1] < 0)


def _touching(objects: list[Found], unit: float) -> bool:
    """True if the two things meet in most frames."""
    grown = F.max_pool2d((objects[0].opacity[:, None] > 0.5).float(), 3, 1, 1)[:, 0] > 0
    line = (grown & (objects[1].opacity > 0.5)).flatten(1).sum(1) * unit
    return (line > _TOUCH).float().mean().item() > 0.5
