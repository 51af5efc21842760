"""Which camera motion makes the background of a clip stand still."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.data.toyworld.geometry import apply, camera_matrix
from hunyuan_video.data.toyworld.vocabulary import CAMERAS

_STRENGTHS = (0.5, 0.75, 1.0, 1.25)  # of the renderer's own motion
_LOOKS = 9  # frames that are compared
_STEP = 2  # every second pixel is compared
_STILL_BONUS = 0.8  # a moving camera must explain the background this much better than a still one
_SHAKE_BONUS = 0.6  # and a shake, which has many free numbers, this much better than any steady motion
_MIN_TEXTURE = 0.6  # and what then stands still must vary this much over space, relative to what is left over time
# Without a texture no camera can be told. Named textures have a variance of 0.002 and more (sum of the channels); what
# a decoder leaves around an object on a plain background, and what moves with that object, stays below 0.0003.
_MIN_CONTRAST = 6e-4
_SHAKE_TURNS = 4.0  # units that the view of a handheld shot goes back and forth, at least
_SHAKE_REACH = 8  # longest shift that is searched
_SHAKE_PACE = 4  # and the longest from one frame to the next


def find_camera(
    pictures: Tensor,  # [F, 3, h, w] in [0, 1], one pixel per world unit
    cover: Tensor,  # [F, h, w] where the object is
    progress: Tensor,  # [F]
) -> tuple[str, Tensor]:
    """The camera's class, and its matrices from pixels to the world, [F, 3, 3]."""
    pictures = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    ground = 1.0 - F.max_pool2d(cover[:, None], 9, 1, 4)
    looks = (
        torch.linspace(0, len(pictures) - 1, min(_LOOKS, len(pictures)), dtype=torch.float32, device="cpu")
        .round()
        .long()
    )
    layers = torch.cat([pictures, ground], 1)

    size = (pictures.shape[2], pictures.shape[3])
    restless, texture = _restlessness(layers[looks], _candidate_grids(progress[looks], size))
    best = int(restless.argmin())
    if restless[0] * _STILL_BONUS <= restless[best] or not _textured(texture[best], restless[best]):
        best = 0
    if restless[best] > 1e-6 and len(pictures) > 4:
        shake = _shifts(pictures, ground[:, 0])
        left, texture = _restlessness(layers[looks], _grids(shake[looks][None], size))
        if (
            _back_and_forth(shake) >= _SHAKE_TURNS
            and left[0] < _SHAKE_BONUS * restless[best]
            and _textured(texture[0], left[0])
        ):
            return "handheld shot", shake
    camera, strength = _candidates()[best]
    return camera, camera_matrix(camera, progress, strength=strength)


def _textured(texture: Tensor, restless: Tensor) -> bool:
    return bool(texture > _MIN_CONTRAST and texture > _MIN_TEXTURE * restless)


def _back_and_forth(
    shake: Tensor,  # [F, 3, 3] shifts
) -> float:
    """Length of the view's way beyond the straight line from its start to its end, on the worse axis."""
    path = shake[:, :2, 2]
    return (path.diff(dim=0).abs().sum(0) - (path[-1] - path[0]).abs()).max().item()


def _candidates() -> list[tuple[str, float]]:
    steady = [camera for camera in CAMERAS if camera not in ("static shot", "handheld shot")]
    return [("static shot", 1.0), *((camera, strength) for camera in steady for strength in _STRENGTHS)]


def _grids(
    matrices: Tensor,  # [K, F, 3, 3] pixel -> world
    size: tuple[int, int],
) -> Tensor:
    """Positions in each frame of the points of one world grid, in grid_sample's coordinates: [F, K * rows, columns, 2].

    The points lie between pixels, so that interpolation smooths noise at least as much for a still camera as for a
    moving one, which would otherwise explain the noise of a plain background better.
    """
    height, width = size
    y, x = (torch.arange(0, side, _STEP, dtype=torch.float32, device="cpu") - side / 2.0 + 1.0 for side in size)
    count, frames = matrices.shape[:2]
    inverse = torch.linalg.inv(matrices.double()).float().flatten(0, 1)
    pixel_x, pixel_y = apply(inverse, x.view(1, 1, -1), y.view(1, -1, 1))
    grid = torch.stack([pixel_x * (2.0 / width), pixel_y * (2.0 / height)], -1)
    return grid.unflatten(0, (count, frames)).transpose(0, 1).flatten(1, 2).contiguous()


def _candidate_grids(progress: Tensor, size: tuple[int, int]) -> Tensor:
    return _cached_grids(tuple(progress.tolist()), size)


@lru_cache(maxsize=4)
def _cached_grids(progress: tuple[float, ...], size: tuple[int, int]) -> Tensor:
    times = torch.tensor(progress, dtype=torch.float32, device="cpu")
    return _grids(torch.stack([camera_matrix(name, times, strength=s) for name, s in _candidates()]), size)


def _restlessness(
    layers: Tensor,  # [F, 4, h, w]: color, and 1 where the background is seen
    grids: Tensor,  # [F, K * rows, columns, 2]
) -> tuple[Tensor, Tensor]:
    """Variance of the color over time at a world point, and over the world points of the mean: each [K].

    Of the points that show background in three looks or more.
    """
    seen = F.grid_sample(layers, grids, mode="bilinear", padding_mode="zeros", align_corners=False)
    rows = (layers.shape[2] + _STEP - 1) // _STEP
    seen = seen.unflatten(2, (-1, rows))
    color, weight = seen[:, :3], (seen[:, 3:] > 0.99).float()
    count = weight.sum(0).clamp(min=1.0)
    mean = (color * weight).sum(0) / count
    over_time = ((color - mean).square() * weight).sum((0, 1)) / count[0]
    usable = (count[0] >= min(3, len(layers))).float()
    total = usable.sum((1, 2)).clamp(min=1.0)
    center = (mean * usable).sum((2, 3), keepdim=True) / total.view(-1, 1, 1)
    over_space = (mean - center).square().sum(0)
    return (over_time * usable).sum((1, 2)) / total, (over_space * usable).sum((1, 2)) / total


def _shifts(
    pictures: Tensor,  # [F, 3, h, w]
    ground: Tensor,  # [F, h, w]
) -> Tensor:
    """The way of the view as whole-pixel shifts from the first frame, each near the one before: matrices [F, 3, 3]."""
    difference, spread = _differences(pictures, ground)
    reach = _SHAKE_REACH
    offsets = torch.arange(-reach, reach + 1, device="cpu")
    path = torch.zeros(len(pictures), 2, dtype=torch.float32, device="cpu")
    for frame in range(1, len(pictures)):
        away_y, away_x = offsets[:, None] - path[frame - 1, 1], offsets[None, :] - path[frame - 1, 0]
        cost = difference[frame] + 0.03 * spread * torch.hypot(away_x, away_y)
        cost = cost.masked_fill(torch.maximum(away_x.abs(), away_y.abs()) > _SHAKE_PACE, torch.inf)
        place = int(cost.argmin())
        path[frame] = torch.tensor([place % (2 * reach + 1) - reach, place // (2 * reach + 1) - reach], device="cpu")
    matrices = torch.eye(3, dtype=torch.float32, device="cpu").repeat(len(pictures), 1, 1)
    matrices[:, :2, 2] = path
    return matrices


def _differences(pictures: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared difference between each frame and the first one shifted by (dy, dx), and the background's variance.

    [F, 2 * reach + 1, 2 * reach + 1]; by Fourier transforms, over the pixels that show background in both.
    """
    gray = pictures.mean(1)
    mean = (gray * ground).sum() / ground.sum().clamp(min=1.0)
    gray = (gray - mean) * ground
    spread = gray.square().sum() / ground.sum().clamp(min=1.0)
    size = [side + 2 * _SHAKE_REACH for side in gray.shape[1:]]
    ones, first, second = (torch.fft.rfft2(value, s=size) for value in (ground, gray, gray.square()))

    def correlate(moved: Tensor, fixed: Tensor) -> Tensor:
        full = torch.fft.irfft2(moved.conj() * fixed, s=size)
        full = full.roll((_SHAKE_REACH, _SHAKE_REACH), (1, 2))
        return full[:, : 2 * _SHAKE_REACH + 1, : 2 * _SHAKE_REACH + 1]

    total = correlate(second, ones[:1]) + correlate(ones, second[:1]) - 2.0 * correlate(first, first[:1])
    return total / correlate(ones, ones[:1]).clamp(min=1.0), spread
