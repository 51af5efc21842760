"""Scenes to pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hunyuan_video.data.toyworld import geometry
from hunyuan_video.data.toyworld.scene import AnyScene, Scene
from hunyuan_video.data.toyworld.vocabulary import BACKGROUND_COLORS, OBJECT_COLORS, WORLD_UNITS
from hunyuan_video.data.toyworld.wide import picture
from hunyuan_video.data.toyworld.wide.scene import WideScene


def render(
    scenes: Sequence[AnyScene],
    num_frames: int = 17,
    size: int | tuple[int, int] = 64,
) -> Tensor:
    """Draws every scene. uint8 RGB [N, F, H, W, 3].

    size: side of a square picture, or (height, width), in pixels. A scene looks the same at every size (the shorter
    side always shows 64 world units) and takes the whole clip for its motion, however many frames that is; a single
    frame shows its middle. Each clip is drawn on its own, so its pixels do not depend on the batch.
    """
    height, width = (size, size) if isinstance(size, int) else size
    for name, value in (("num_frames", num_frames), ("height", height), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    clips = torch.empty(len(scenes), num_frames, height, width, 3, dtype=torch.uint8, device="cpu")
    progress = (
        torch.linspace(0.0, 1.0, num_frames, dtype=torch.float32, device="cpu")
        if num_frames > 1
        else torch.tensor([0.5], dtype=torch.float32, device="cpu")
    )
    unit = WORLD_UNITS / min(height, width)
    for clip, scene in zip(clips, scenes, strict=True):
        if isinstance(scene, WideScene):
            picture.draw(clip, scene, progress, unit)
        else:
            _draw(clip, scene, progress, unit)
    return clips


def _draw(
    clip: Tensor,  # [F, H, W, 3] uint8, written
    scene: Scene,
    progress: Tensor,  # [F]
    unit: float,  # side of a pixel in world units
) -> None:
    y, x = (unit * (torch.arange(n, dtype=torch.float32, device="cpu") - (n - 1) / 2.0) for n in clip.shape[1:3])
    matrices = geometry.camera_matrix(scene.camera, progress, scene.phases)
    if scene.camera == "static shot":
        matrices = matrices[:1]  # one background for all frames
    world_x, world_y = geometry.apply(matrices, x.view(1, 1, -1), y.view(1, -1, 1))
    tone = geometry.texture(scene.texture, world_x, world_y, scene.phases)

    center_x, center_y, radius, angle = (value.view(-1, 1, 1) for value in geometry.track(scene, progress))
    u, v = (world_x - center_x) / radius, (world_y - center_y) / radius
    if scene.motion == "rotate":
        cos, sin = torch.cos(angle), torch.sin(angle)
        u, v = cos * u + sin * v, cos * v - sin * u
    # The outline is blended over one pixel.
    cover = (0.5 - geometry.signed_distance(scene.shape, u, v) * (radius / unit)).clamp(0.0, 1.0)

    for channel in range(3):
        dark, light = (255.0 * side[channel] for side in BACKGROUND_COLORS[scene.background])
        paint = 255.0 * min(1.0, max(0.0, OBJECT_COLORS[scene.color][channel] + scene.tint[channel]))
        background = dark + (light - dark) * tone
        clip[..., channel] = (background + (paint - background) * cover + 0.5).to(torch.uint8)
