"""Wide scenes to pixels."""

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.geometry import apply, camera_matrix
from hunyuan_video.data.toyworld.wide import geometry, strokes
from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.layout import Track, tracks
from hunyuan_video.data.toyworld.wide.scene import WideScene


def draw(
    clip: Tensor,  # [F, H, W, 3] uint8, written
    scene: WideScene,
    progress: Tensor,  # [F]
    unit: float,  # side of a pixel in world units
) -> None:
    """Draws one clip. Outlines are blended over one pixel; nothing is sampled, so it is exact at every size."""
    y, x = (unit * (torch.arange(n) - (n - 1) / 2.0) for n in clip.shape[1:3])
    matrices = camera_matrix(scene.camera, progress, scene.phases)
    if scene.camera == "static shot":
        matrices = matrices[:1]  # one background for all frames
    world_x, world_y = apply(matrices, x.view(1, 1, -1), y.view(1, -1, 1))
    ground = strokes.background if scene.style == "lines" else geometry.background
    channels = ground(scene.background, scene.background_color or "", world_x, world_y, scene.phases)
    half = 32.0
    channels = geometry.lit(channels, scene.light, x.view(1, 1, -1) / half, y.view(1, -1, 1) / half)
    picture = torch.stack([channel.expand(clip.shape[:3]) for channel in channels])  # [3, F, H, W]
    if scene.camera == "static shot":
        picture = picture.clone()
    to_screen = torch.linalg.inv(camera_matrix(scene.camera, progress, scene.phases).double()).float()
    for track in tracks(scene, progress):
        window = _window(track, to_screen, x, y, scene)
        if window is not None:
            _paint(picture, scene, track, world_x, world_y, window, unit)
    clip.copy_((255.0 * picture + 0.5).clamp_(0.0, 255.0).permute(1, 2, 3, 0))


def _window(track: Track, to_screen: Tensor, x: Tensor, y: Tensor, scene: WideScene) -> tuple[slice, slice] | None:
    """Rows and columns that hold the object in all frames; None: it is never in the picture."""
    reach = track.radius * (geometry.EXTENT.get(scene.things[track.thing].shape, 1.0) + 0.05) + 1.0
    corners = [(reach * side_x, reach * side_y) for side_x in (-1, 1) for side_y in (-1, 1)]
    seen = [apply(to_screen, track.x + dx, track.y + dy) for dx, dy in corners]
    windows = []
    for axis, line in ((1, y), (0, x)):
        places = torch.stack([corner[axis] for corner in seen])
        inside = ((line >= places.min() - 1.0) & (line <= places.max() + 1.0)).nonzero().flatten()
        if len(inside) == 0:
            return None
        windows.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return windows[0], windows[1]


def _paint(
    picture: Tensor,  # [3, F, H, W], written
    scene: WideScene,
    track: Track,
    world_x: Tensor,  # [F or 1, H or 1, W]
    world_y: Tensor,  # [F or 1, H, W or 1]
    window: tuple[slice, slice],
    unit: float,
) -> None:
    thing, (rows, columns) = scene.things[track.thing], window
    world_x = world_x.expand(-1, picture.shape[2], picture.shape[3])[:, rows, columns]
    world_y = world_y.expand(-1, picture.shape[2], picture.shape[3])[:, rows, columns]
    radius = track.radius.view(-1, 1, 1)
    u, v = world_x - track.x.view(-1, 1, 1), world_y - track.y.view(-1, 1, 1)
    if thing.motion == "rotate":
        cos, sin = torch.cos(track.angle).view(-1, 1, 1), torch.sin(track.angle).view(-1, 1, 1)
        u, v = cos * u + sin * v, cos * v - sin * u
    distance = geometry.signed_distance(thing.shape, u / radius, v / radius) * radius
    cover = (0.5 - distance / unit).clamp(0.0, 1.0)
    # Fills belong to the object: they grow with it.
    grown = radius / scene.radii[track.thing]
    second = geometry.second_tone(thing.fill, u / grown, v / grown, distance / grown)
    if scene.style == "lines":
        second = strokes.share(distance, second, unit)
    for channel, (base, other) in enumerate(paints(scene, track.thing)):
        color = base + (other - base) * second
        part = picture[channel, :, rows, columns]
        part += (color - part) * cover


def paints(scene: WideScene, number: int) -> list[tuple[float, float]]:
    """The two tones of a thing under the scene's light: (color, second tone) of each channel."""
    if scene.style == "lines":
        return strokes.paints(scene.things[number].color, scene.light)
    color = words.COLORS[scene.things[number].color]
    pale = scene.things[number].color in words.PALE
    tones = []
    for value, tint, light in zip(color, scene.tints[number], words.TINTS[scene.light], strict=True):
        value = min(1.0, max(0.0, value + tint))
        second = 0.45 * value if pale else 0.25 * value + 0.72
        tones.append((light * value, light * second))
    return tones
